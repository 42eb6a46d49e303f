"""The echo exercise: a model learns it if the state is carried from window to window, and cannot learn it otherwise."""

import echo_rnn
import numpy as np
import pytest

# Targets that nobody can know are the first three of a stream. Of 5 streams with 666 windows of 15 steps, a share of
HOPELESS = 3 * 5 / (5 * 666 * 15)
# If the state is forgotten: three of every window.
SHARE = 3 / 15


def trained(cell, layers, epochs, rate=0.3, forget_state=False):
    """Error and loss on a test series, and the mean loss of the last epoch's windows."""
    model = echo_rnn.EchoModel(cell, layers, rate, seed=0)
    for _ in range(epochs):
        losses = echo_rnn.train_epoch(model, 3, forget_state)
    error, loss, _ = echo_rnn.evaluate(model, 3, forget_state, seed=0)
    return error, loss, np.mean(losses)


@pytest.mark.parametrize(("cell", "layers", "epochs"), [("rnn", 1, 3), ("lstm", 3, 4)])
def test_an_echo_is_learned_when_the_state_is_carried(cell, layers, epochs):
    error, loss, train_loss = trained(cell, layers, epochs)
    assert error <= HOPELESS
    assert max(loss, train_loss) < SHARE * np.log(2) / 20


@pytest.mark.parametrize(("cell", "layers", "epochs"), [("rnn", 1, 3), ("lstm", 3, 4)])
def test_without_the_state_the_first_targets_of_a_window_stay_coin_flips(cell, layers, epochs):
    error, loss, train_loss = trained(cell, layers, epochs, forget_state=True)
    # 9990 flips; the tolerance is five standard deviations of the share of wrong guesses
    assert abs(error - SHARE / 2) < 5 * SHARE * 0.5 / np.sqrt(9990)
    assert min(loss, train_loss) > SHARE * np.log(2)


def test_targets_are_the_inputs_of_three_steps_before_across_windows():
    windows = echo_rnn.make_windows(np.random.default_rng(0), 3)
    assert (len(windows), windows.batch_size, windows.num_steps) == (666, 5, 15)
    x, targets = (np.concatenate(column) for column in zip(*map(windows.__getitem__, range(666)), strict=True))
    np.testing.assert_array_equal(targets[3:], x[:-3])


def test_a_series_is_drawn_anew_in_each_epoch():
    rng = np.random.default_rng(0)
    first, second = (echo_rnn.make_windows(rng, 3)[0][0] for _ in range(2))
    assert (first != second).any()


def test_the_program_reports(tmp_path, capsys):
    assert echo_rnn.main(["--epochs", "1", "--plot", str(tmp_path / "echo.png")]) == 0
    printed = capsys.readouterr().out
    assert "without a carried state: error 0.100, loss 0.139 at best" in printed
    assert "epoch  1: error 0.0" in printed


def test_the_loss_and_the_echo_are_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "echo.png"
    echo_rnn.main(["--epochs", "1", "--plot", str(path)])
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--delay", "0"], "--delay: expected at least 1"),
        (["--learning-rate", "-1"], "--learning-rate: expected a positive number"),
        (["--plot", "no/such/folder/a.png"], "--plot: expected a file in a folder that exists"),
    ],
)
def test_wrong_options_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        echo_rnn.main(options)
    assert message in capsys.readouterr().err
