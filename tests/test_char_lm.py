"""The character model of the examples: gradients, streams, the trigram, and training that stops and resumes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import char_lm
import numpy as np
import pytest
from character_model import CharacterModel
from character_text import encode, read_text, trigram_bits
from training_checkpoint import read_checkpoint

PROGRAM = Path(__file__).resolve().parents[1] / "examples" / "char_lm.py"
SMALL = [
    "--embedding-size=8", "--hidden-size=24", "--num-layers=2", "--dropout=0.2", "--batch-size=4", "--num-steps=15",
    "--epochs=3", "--sample=10",
]  # fmt: skip


@pytest.fixture
def text(tmp_path):
    """Random words: there is something to learn, and the model cannot learn all of it."""
    rng = random.Random(0)
    words = ["batch", "time", "steps", "state", "gradient", "window", "stream", "recurrent"]
    path = tmp_path / "words.txt"
    path.write_text(" ".join(rng.choice(words) for _ in range(2500)))
    return str(path)


def train(*options):
    assert char_lm.main([*SMALL, *map(str, options)]) == 0


def arrays_of(path):
    return {
        f"{group}/{name}": a
        for group, part in read_checkpoint(str(path), "char_lm")[1].items()
        for name, a in part.items()
    }


def assert_same(one, other):
    one, other = arrays_of(one), arrays_of(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gradients_are_the_derivative_of_the_mean_loss(cell):
    model = CharacterModel(cell, 7, 5, 6, num_layers=2, dtype=np.float64, seed=1)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 7, (2, 9, 3))
    _, state = model.logits(ids)
    loss, gradients, _ = model.gradients(ids, targets, state)
    assert loss == pytest.approx(model.bits(ids, targets, state)[0] * np.log(2) / ids.size)
    assert gradients.keys() == model.parameters.keys()
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        values = []
        for sign in (1, -1):
            model.parameters[name] += sign * 1e-6 * direction
            values.append(model.bits(ids, targets, state)[0] * np.log(2) / ids.size)
            model.parameters[name] -= sign * 1e-6 * direction
        assert (gradient * direction).sum() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-9), name


def test_characters_are_numbered_in_order():
    vocabulary = "".join(sorted(set("grüße, 世界")))
    ids = encode("grüße, 世界", vocabulary)
    assert "".join(vocabulary[j] for j in ids) == "grüße, 世界"


def test_trigram_probabilities_sum_to_one_and_equal_a_direct_count():
    rng = np.random.default_rng(0)
    train_ids, size = rng.integers(0, 3, 200), 4

    def probability(a, b, c):
        def ratio(context, below):
            n = len(context)
            following = [train_ids[j + n] for j in range(len(train_ids) - n) if tuple(train_ids[j : j + n]) == context]
            different = len(set(following))
            return (following.count(c) + different * below) / (len(following) + different) if following else below

        return ratio((a, b), ratio((b,), (list(train_ids).count(c) + 1) / (len(train_ids) + size)))

    for a, b in ((0, 1), (2, 2), (3, 0), (3, 3)):
        each = [2.0 ** -trigram_bits(train_ids, np.array([a, b, c]), size) for c in range(size)]
        assert sum(each) == pytest.approx(1)
        assert each == pytest.approx([probability(a, b, c) for c in range(size)])


def test_default_text_is_long_enough_to_learn_from():
    assert len(read_text(None)) > 200_000


def test_training_learns_and_reports(text, tmp_path, capsys):
    train("--text", text, "--epochs", 4, "--dropout", 0, "--learning-rate", 0.02, "--save", tmp_path / "c.npz")
    curve = arrays_of(tmp_path / "c.npz")["curves/validation"][:, 1]
    assert curve[-1] < curve[0] < np.log2(27)
    printed = capsys.readouterr().out
    for word in ("trigram", f"validation {curve[-1]:.3f}", "char/s", "a sample:"):
        assert word in printed
    assert not list(tmp_path.glob("*.tmp"))


def test_interrupted_training_resumes_bit_for_bit(text, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the middle of an epoch, with dropout; the checkpoint includes the dropout generator."""
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    train("--text", text, "--save", whole)
    step, calls = char_lm.Training.step, []

    def step_then_interrupt(self, *arguments):
        calls.append(0)
        if len(calls) == 400:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(char_lm.Training, "step", step_then_interrupt)
        assert char_lm.main([*SMALL, "--text", text, "--save", str(part)]) == 130
    assert len(calls) == 400
    assert f"--resume {part}" in capsys.readouterr().out
    header, _ = read_checkpoint(str(part), "char_lm")
    assert header["counters"][1] > 0
    assert char_lm.main(["--resume", str(part)]) == 0
    assert_same(part, whole)


def test_ctrl_c_of_the_program_writes_a_checkpoint(text, tmp_path):
    path = tmp_path / "c.npz"
    command = [sys.executable, PROGRAM, *SMALL, "--text", text, "--epochs", "100000", "--save", path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in out
    assert "Traceback" not in errors
    assert "parameters/weight_hh_l1" in arrays_of(path)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_train_and_resume(cell, text, tmp_path):
    train("--text", text, "--cell", cell, "--epochs", 1, "--save", tmp_path / "c.npz")
    assert char_lm.main(["--resume", str(tmp_path / "c.npz"), "--epochs", "2"]) == 0
    assert len(arrays_of(tmp_path / "c.npz")["curves/validation"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden-size", "0"], "--hidden-size: expected at least 1"),
        (["--dropout", "1"], "--dropout: expected a probability"),
        (["--clip", "nan"], "--clip: expected a positive number"),
        (["--text", "no/such/file"], "no/such/file"),
        (["--save", "no/such/folder/c.npz"], "--save: expected a file in a folder that exists"),
        (["--resume", "no/such/file"], "--resume: "),
        (["--resume", str(PROGRAM)], "--resume: expected a checkpoint"),
        (["--batch-size", "40000000"], "data: expected at least"),
    ],
)
def test_wrong_options_are_refused(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        char_lm.main(options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_fixes_the_model_and_the_text(text, tmp_path, capsys):
    path = str(tmp_path / "c.npz")
    train("--text", text, "--epochs", 1, "--save", path)
    before = Path(path).read_bytes()
    other = tmp_path / "other.txt"
    other.write_text(Path(text).read_text()[1:])
    for options, message in (
        (["--hidden-size", "25"], "--hidden-size: the checkpoint has 24, got 25"),
        (["--text", str(other)], "--resume: expected the text"),
    ):
        with pytest.raises(SystemExit):
            char_lm.main(["--resume", path, *options])
        assert message in capsys.readouterr().err
    assert Path(path).read_bytes() == before


def test_learning_curve_is_a_picture(text, tmp_path):
    pytest.importorskip("matplotlib")
    train("--text", text, "--epochs", 1, "--save", tmp_path / "c.npz")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
