"""Pace: what earlier calls of a layer have shown about threads. tests/pace.c has the rules of calibration."""

import copy
import pickle
import shutil
import subprocess

import fastrnn
import numpy as np
import pytest
from core_call import same_bits
from fastrnn import _core, config
from page_code import ROOT

X = np.linspace(-1, 1, 6 * 3 * 5, dtype=np.float32).reshape(6, 3, 5)


def pace_of(layer):
    layer(X)
    return layer._network.dense_plan(6, 3).pace


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_calibration_keeps_its_rules_by_a_simulated_clock(tmp_path):
    program = tmp_path / "pace"
    command = [
        "cc",
        "-O1",
        "-std=gnu11",
        f"-I{ROOT / 'csrc'}",
        str(ROOT / "tests/pace.c"),
        "-o",
        str(program),
        "-pthread",
    ]
    subprocess.run(command, check=True, timeout=120)
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


def test_a_layer_keeps_its_pace_and_other_layers_have_another():
    layer = fastrnn.LSTM(5, 7, seed=0)
    pace = pace_of(layer)
    assert isinstance(pace, _core.Pace)
    assert pace_of(layer) is pace
    assert layer._network.dense_plan(2, 4).pace is pace
    for other in (
        fastrnn.LSTM(5, 7, seed=0),
        copy.deepcopy(layer),
        copy.copy(layer),
        pickle.loads(pickle.dumps(layer)),
    ):
        assert pace_of(other) is not pace


def test_a_pace_cannot_be_pickled():
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(_core.Pace())


def test_a_stream_has_a_pace_and_keeps_it_when_it_is_refreshed():
    layer = fastrnn.GRU(5, 7, seed=0)
    stream = layer.stream(2)
    pace = stream._pace
    stream.refresh()
    assert stream._pace is pace
    assert layer.stream(2)._pace is not pace


def test_copies_of_torch_modules_have_paces_of_their_own():
    torch = pytest.importorskip("torch")
    import fastrnn.torch

    module = fastrnn.torch.GRU(5, 7)
    module(torch.from_numpy(X))
    (key,) = module._fastrnn_memory.calls._paces
    pace = module._fastrnn_memory.calls._paces[key]
    module(torch.from_numpy(X[:2]))
    assert module._fastrnn_memory.calls.pace(*key) is pace
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert other._fastrnn_memory is None or not other._fastrnn_memory.calls._paces
        other(torch.from_numpy(X))
        assert other._fastrnn_memory.calls.pace(*key) is not pace


@pytest.mark.parametrize("cut", _core.CUTS)
@pytest.mark.parametrize(
    ("T", "B", "I", "H", "ragged"), [(40, 33, 8, 24, False), (5, 130, 3, 17, False), (30, 40, 5, 9, True)]
)
def test_every_cut_has_the_bits_of_one_thread(backend, cut, T, B, I, H, ragged):
    """Batches that have pieces, in several chunks of backward."""
    layer, rng = fastrnn.LSTM(I, H, seed=1), np.random.default_rng(0)
    x, dy = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (I, H))
    lengths = np.arange(B) * 7 % (T + 1) if ragged else None

    def everything():
        y, _, tape = layer.forward(x, lengths=lengths)
        gradients = layer.backward(tape, dy)
        return [y, gradients.x, *gradients.parameters.values()]

    fastrnn.set_num_threads(1)
    expected = everything()
    for threads in (2, 5):
        fastrnn.set_num_threads(threads)
        with config.use_cut(cut):
            for found, wanted in zip(everything(), expected, strict=True):
                assert same_bits(found, wanted)
