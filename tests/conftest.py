import os

import fastrnn
import pytest
from fastrnn import _core, config
from hypothesis import HealthCheck, settings

for name, examples in (("default", 60), ("ci", 15), ("again", 6), ("thorough", 1000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=name in ("ci", "again"),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

BACKENDS = [backend.name for backend in _core.backends() if backend.runs_here]
FORCED = os.environ.get("FASTRNN_BACKEND")


@pytest.fixture(params=[FORCED] if FORCED else BACKENDS)
def backend(request):
    """Every backend that this machine runs, in turn; or only the forced backend."""
    with config.use_backend(request.param):
        yield request.param


@pytest.fixture(params=BACKENDS)
def other_backend(request):
    """The name of each backend that this machine runs, in turn; the test switches to it."""
    return request.param


@pytest.fixture(autouse=True)
def _threads():
    """Restore the number of threads after each test."""
    before = config._threads
    yield
    config._threads = before


@pytest.fixture
def fma_backends():
    found = [b.name for b in _core.backends() if b.runs_here and b.has_fma]
    if len(found) < 2:
        pytest.skip(f"only {found} on this machine")
    return found


def pytest_report_header():
    return f"fastrnn: {fastrnn.show_config(mode='dicts')}"
