"""python -m fastrnn: its output, and its exit status for a bug in values, gradients or bits."""

import json
import re
import subprocess
import sys

import fastrnn
import numpy as np
import pytest
from fastrnn import __main__ as command_line
from fastrnn.testing import assert_values, self_test


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fastrnn", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def configuration():
    """The configuration of a new process: this process may have OpenMP runtimes of libraries from other tests."""
    program = "import fastrnn, json; print(json.dumps(fastrnn.show_config('dicts')))"
    return json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)


def test_a_sound_installation_passes_and_says_what_it_is():
    result = run()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "24 of 24 checks passed" in result.stdout
    for key, value in configuration().items():
        assert key in result.stdout
        assert (", ".join(value) if isinstance(value, list) else str(value)) in result.stdout


def test_json_has_the_configuration_and_no_check_without_the_self_test():
    result = run("--json", "--no-self-test")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown == {"config": configuration(), "self_test": []}


def test_an_unknown_option_is_refused():
    result = run("--no-such-option")
    assert result.returncode == 2
    assert "--no-such-option" in result.stderr


def break_gru_values(monkeypatch):
    call = fastrnn.GRU.__call__

    def wrong(self, *arguments, **options):
        y, state = call(self, *arguments, **options)
        return y * (1 + np.float32(1e-2)), state

    monkeypatch.setattr(fastrnn.GRU, "__call__", wrong)


def break_gru_gradients(monkeypatch):
    backward = fastrnn.GRU.backward

    def wrong(self, *arguments, **options):
        gradients = backward(self, *arguments, **options)
        gradients.x[...] *= 1.01
        return gradients

    monkeypatch.setattr(fastrnn.GRU, "backward", wrong)


def break_gru_bits(monkeypatch):
    """Make the last bit of a sequence differ when it runs alone."""
    forward = fastrnn.GRU.forward

    def wrong(self, x, *arguments, **options):
        y, state, tape = forward(self, x, *arguments, **options)
        return (np.nextafter(y, np.inf, dtype=y.dtype) if x.shape[1] == 1 else y), state, tape

    monkeypatch.setattr(fastrnn.GRU, "forward", wrong)


def break_gru_altogether(monkeypatch):
    monkeypatch.setattr(fastrnn.GRU, "forward", None)


FAULTS = {
    break_gru_values: {"values"},
    break_gru_gradients: {"gradients"},
    break_gru_bits: {"the same bits"},
    break_gru_altogether: {"gradients", "the same bits"},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_fails_its_checks_and_no_other_and_is_the_exit_status(monkeypatch, capsys, fault):
    checks = [c for c in self_test.checks() if c[0].startswith(("gru float32", "rnn_relu float32"))]
    monkeypatch.setattr(self_test, "checks", lambda: iter(checks))
    fault(monkeypatch)
    assert command_line.main([]) == 1
    printed = capsys.readouterr().out
    assert set(re.findall("^FAILED  (.*?: .*?): ", printed, re.MULTILINE)) == {
        f"gru float32: {n}" for n in FAULTS[fault]
    }
    assert f"{6 - len(FAULTS[fault])} of 6 checks passed" in printed


def test_a_fault_is_the_exit_status_of_json_and_has_its_message_there(monkeypatch, capsys):
    def fail():
        raise AssertionError("off")

    monkeypatch.setattr(self_test, "checks", lambda: iter([("good", int), ("bad", fail), ("worse", {}.popitem)]))
    assert command_line.main(["--json"]) == 1
    results = json.loads(capsys.readouterr().out)["self_test"]
    errors = [result["error"] for result in results]
    assert errors == [None, "off", "KeyError: 'popitem(): dictionary is empty'"]
    monkeypatch.setattr(self_test, "checks", lambda: iter([("good", int)]))
    assert command_line.main(["--json"]) == 0


@pytest.mark.parametrize("kind", [fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN])
@pytest.mark.parametrize("layout", ["batched", "batch_first", "unbatched"])
def test_values_of_every_layout_pass_and_one_wrong_state_is_named(monkeypatch, kind, layout):
    layer = kind(3, 5, bidirectional=True, batch_first=layout == "batch_first", seed=0)
    x = np.random.default_rng(0).standard_normal((4, 3) if layout == "unbatched" else (4, 2, 3)).astype(np.float32)
    assert_values(layer, x)
    call = type(layer).__call__

    def wrong(self, *arguments, **options):
        y, state = call(self, *arguments, **options)
        h = state[0] if isinstance(state, tuple) else state
        h[-1] += np.float32(1e-4)
        return y, state

    monkeypatch.setattr(kind, "__call__", wrong)
    with pytest.raises(AssertionError, match=r"h_n: off by .*, allowed "):
        assert_values(layer, x)
