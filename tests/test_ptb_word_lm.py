"""The word model of the tutorial: its sizes, its reader, gradients, clipping, and training that resumes exactly."""

import dataclasses
import random

import numpy as np
import ptb_word_lm
import pytest
from training_checkpoint import read_checkpoint
from word_model import CONFIGS, Config, WordModel
from word_text import number_words, read_treebank, read_words

TINY = Config(12, 4, 0.1, epochs=3, full_rate_epochs=1, decay=0.5, keep=0.8, clip=5, batch_size=3)


@pytest.fixture
def text(tmp_path):
    """Random sentences; half of the words follow from the previous words."""
    rng, path = random.Random(0), tmp_path / "words.txt"
    nouns, verbs = ["state", "window", "stream", "batch"], ["carries", "reads", "ends"]
    path.write_text(
        "\n".join(f"the {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)} ." for _ in range(150))
    )
    return str(path)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(CONFIGS, "tiny", TINY)
    return ["--config", "tiny", "--vocabulary-size", "20"]


def test_configurations_are_those_of_the_tutorial():
    shared = {"num_layers": 2, "batch_size": 20, "learning_rate": 1.0}
    for name, *row in (
        ("small", 200, 20, 0.1, 13, 4, 0.5, 1.0, 5),
        ("medium", 650, 35, 0.05, 39, 6, 0.8, 0.5, 5),
        ("large", 1500, 35, 0.04, 55, 14, 1 / 1.15, 0.35, 10),
    ):
        fields = ("hidden_size", "num_steps", "init_scale", "epochs", "full_rate_epochs", "decay", "keep", "clip")
        assert dataclasses.asdict(CONFIGS[name]) == dict(zip(fields, row, strict=True)) | shared


def test_the_rate_falls_after_the_epochs_at_full_rate():
    assert [CONFIGS["small"].rate(epoch) for epoch in range(7)] == [1, 1, 1, 1, 0.5, 0.25, 0.125]


def test_parameters_start_within_the_scale_and_biases_at_zero():
    model = WordModel(TINY, 30)
    for name, array in model.parameters.items():
        bound = 0 if name.startswith("bias") else TINY.init_scale
        assert 0.9 * bound <= np.abs(array).max() <= bound, name
    assert model.parameters["weight_hh_l1"] is model.layers.parameters["weight_hh_l1"]


# ---- the reader ----


def test_words_are_numbered_by_falling_frequency_and_equal_ones_by_letters():
    corpus = number_words([["b", "a", "b", "cz", "a", "b", "da"], ["a", "da", "z"], ["cz"]], 4)
    assert corpus.vocabulary == ["b", "a", "<unk>", "cz"]
    words = [[corpus.vocabulary[j] for j in ids] for ids in corpus[:3]]
    assert words == [["b", "a", "b", "cz", "a", "b", "<unk>"], ["a", "<unk>", "<unk>"], ["cz"]]


def test_treebank_files_are_read_as_the_tutorial_reads_them(tmp_path):
    """The tutorial's reader, transcribed: newlines become <eos>; words between spaces, sorted by (-count, word)."""
    texts = {"train": " no it was n't <unk> \n the N <unk> was \n", "valid": " was it the \n", "test": " N no \n"}
    for name, content in texts.items():
        (tmp_path / f"ptb.{name}.txt").write_text(content)
    words = {name: content.replace("\n", "<eos>").split() for name, content in texts.items()}
    ranked = sorted(set(words["train"]), key=lambda word: (-words["train"].count(word), word))
    corpus = read_treebank(str(tmp_path), 10_000)
    assert corpus.vocabulary == ranked
    for ids, name in zip(corpus[:3], texts, strict=True):
        assert [corpus.vocabulary[j] for j in ids] == words[name]


def test_any_text_is_cut_into_words_marks_and_ends_of_lines(tmp_path):
    (tmp_path / "a.txt").write_text("Don't go,\nhe said: go!\n" * 10)
    corpus = read_words(str(tmp_path / "a.txt"), 100)
    first = [corpus.vocabulary[j] for j in corpus.train[:10]]
    assert first == ["don't", "go", ",", "<eos>", "he", "said", ":", "go", "!", "<eos>"]
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (90, 5, 5)


# ---- the model ----


@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_gradients_are_the_derivative_of_the_loss_with_the_dropout_at_hand(keep):
    model = WordModel(dataclasses.replace(TINY, keep=keep, init_scale=0.5), 7, np.float64)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 7, (2, 4, 3))
    _, state = model.loss(ids, targets, None)
    dropout = model.rng.bit_generator.state

    def gradients():
        model.rng.bit_generator.state = dropout
        return model.gradients(ids, targets, state)

    _, found, rows, _ = gradients()
    dense = np.zeros_like(model.parameters["embedding"])
    dense[rows] = found["embedding"]
    # The next call overwrites the gradients of the softmax.
    found = {name: gradient.copy() for name, gradient in (found | {"embedding": dense}).items()}
    assert found.keys() == {name for name in model.parameters if not name.startswith("bias_hh")}
    for name, gradient in found.items():
        direction = rng.standard_normal(gradient.shape)
        values = []
        for sign in (1, -1):
            model.parameters[name] += sign * 1e-6 * direction
            values.append(gradients()[0])
            model.parameters[name] -= sign * 1e-6 * direction
        assert (gradient * direction).sum() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-8), name


def test_the_loss_of_training_is_the_mean_over_the_batch_and_the_sum_over_steps():
    model = WordModel(dataclasses.replace(TINY, keep=1.0), 7)
    ids, targets = np.random.default_rng(0).integers(0, 7, (2, 4, 3))
    assert model.gradients(ids, targets, None)[0] == pytest.approx(model.loss(ids, targets, None)[0] / 3)


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_updates_are_no_longer_than_the_rate_times_the_clipped_norm(clip):
    model = WordModel(dataclasses.replace(TINY, keep=1.0, clip=clip), 7, np.float64)
    ids, targets = np.random.default_rng(0).integers(0, 7, (2, 4, 3))
    gradients = model.gradients(ids, targets, None)[1]
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    assert 1e-3 < norm < 1e3
    before = {name: array.copy() for name, array in model.parameters.items()}
    model.update(ids, targets, None, 0.5)
    moved = np.sqrt(sum(((array - before[name]) ** 2).sum() for name, array in model.parameters.items()))
    assert moved == pytest.approx(0.5 * min(norm, clip), rel=1e-9)


# ---- training ----


def arrays_of(path):
    _, groups = read_checkpoint(str(path), "ptb_word_lm")
    return {f"{group}/{name}": array for group, members in groups.items() for name, array in members.items()}


def test_training_learns_and_reports(text, tiny, tmp_path, capsys):
    path = tmp_path / "c.npz"
    assert ptb_word_lm.main([*tiny, "--text", text, "--checkpoint", str(path), "--epochs", "4"]) == 0
    curve = np.exp(arrays_of(path)["curves/validation"][:, 1])
    assert curve[-1] < curve[0] < 12
    printed = capsys.readouterr().out
    assert f"validation perplexity {curve[-1]:.2f}" in printed
    for word in ("words: ", "word/s", "test perplexity "):
        assert word in printed


def test_stopped_training_resumes_bit_for_bit(text, tiny, tmp_path, capsys):
    """Stop in the middle of an epoch, with dropout; the checkpoint includes the dropout generator."""
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    assert ptb_word_lm.main([*tiny, "--text", text, "--checkpoint", str(whole)]) == 0
    assert ptb_word_lm.main([*tiny, "--text", text, "--checkpoint", str(part), "--max-steps", "100"]) == 130
    assert f"interrupted after 100 updates; continue with --resume {part}" in capsys.readouterr().out
    header, _ = read_checkpoint(str(part), "ptb_word_lm")
    assert header["counters"][1] > 0
    assert ptb_word_lm.main(["--resume", str(part)]) == 0
    one, other = arrays_of(whole), arrays_of(part)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_test_perplexity_does_not_depend_on_the_windows(text, tiny, tmp_path):
    options, _ = ptb_word_lm.parse(ptb_word_lm.parser(), [*tiny, "--text", text], "ptb_word_lm", ())
    training = ptb_word_lm.Training(options, TINY, ptb_word_lm.read(options))
    ids, targets = (np.concatenate(column)[:, 0] for column in zip(*[training.test[0]], strict=True))
    total, state = 0.0, None
    for j in range(len(ids)):
        loss, state = training.model.loss(ids[j : j + 1, None], targets[j : j + 1, None], state)
        total += loss
    assert len(ids) == len(training.corpus.test) - 1
    assert training.mean_loss(training.test) == pytest.approx(total / len(ids), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--data", "a", "--text", "b"], "not allowed with"),
        (["--epochs", "0"], "--epochs: expected at least 1"),
        (["--checkpoint", "a.png"], "--checkpoint: expected another ending"),
        (["--resume", "no/such/file"], "--resume: "),
    ],
)
def test_wrong_options_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        ptb_word_lm.main(options)
    assert message in capsys.readouterr().err


def test_a_checkpoint_fixes_the_configuration_and_the_text(text, tiny, tmp_path, capsys):
    path = str(tmp_path / "c.npz")
    ptb_word_lm.main([*tiny, "--text", text, "--checkpoint", path, "--max-steps", "1"])
    for options, message in (
        (["--config", "small"], "--config: the checkpoint has tiny, got small"),
        (["--text", ptb_word_lm.__file__], "--resume: expected the text"),
        (["--data", str(tmp_path)], "--data, --text: expected one of them"),
    ):
        with pytest.raises(SystemExit):
            ptb_word_lm.main(["--resume", path, *options])
        assert message in capsys.readouterr().err


def test_learning_curve_is_a_picture(text, tiny, tmp_path):
    pytest.importorskip("matplotlib")
    ptb_word_lm.main([*tiny, "--text", text, "--epochs", "1", "--checkpoint", str(tmp_path / "c.npz")])
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
