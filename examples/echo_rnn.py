"""The echo exercise: a network repeats its input of some steps ago, by truncated backpropagation through time.

Inputs are 50,000 flips of a fair coin, new flips in each epoch; the target of a step is the input --delay steps before
it. The series is cut into 5 streams, and the streams into windows of 15 steps: the state is carried from window to
window, the gradient is not. The first targets of a window are inputs of the previous window. A network that starts each
window from zeros can only guess these targets: with delay 3, that is 3 targets in 15, so an error of 0.1 and a loss of
0.2 ln 2.

The exercise leaves the learning rate of the deeper network open. Adagrad's 0.3 also works there: with seeds 0 to 2,
three LSTM layers make no errors after one to three epochs; with a rate of 0.1, after two to six.

    python examples/echo_rnn.py                          # tanh, 4 units: no errors after the first epoch
    python examples/echo_rnn.py --forget-state           # must fail
    python examples/echo_rnn.py --cell lstm --layers 3
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fastrnn
import numpy as np
from gradient_descent import Adagrad
from learning_plot import REFERENCE, TRAIN, VALIDATION, import_pyplot
from numpy.typing import NDArray
from softmax_output import SoftmaxOutput
from training_options import positive, positive_real, seed, writable

Bits = NDArray[np.int64]
CELLS = {"rnn": fastrnn.RNN, "lstm": fastrnn.LSTM, "gru": fastrnn.GRU}
LENGTH, BATCH_SIZE, NUM_STEPS, UNITS = 50_000, 5, 15, 4
SHOWN = 60  # steps of one stream in the picture: four windows


class EchoModel:
    """Recurrent layers of 4 units with one number per step, and the probabilities of two classes."""

    def __init__(self, cell: str, layers: int, rate: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers = CELLS[cell](1, UNITS, num_layers=layers, seed=self.rng)
        bound = 1 / np.sqrt(UNITS)
        own = {
            "w_out": self.rng.uniform(-bound, bound, (2, UNITS)).astype(np.float32),
            "b_out": np.zeros(2, np.float32),
        }
        self.output = SoftmaxOutput(own)
        self.rate, self.adagrad = rate, Adagrad(own | self.layers.parameters)

    def update(self, x: Bits, targets: Bits, state: Any) -> tuple[float, Any]:
        """One update from one window (T, B): the mean loss in nats, and the state after the window."""
        y, state, tape = self.layers.forward(x[..., None].astype(np.float32), state)
        loss, dy, d_output = self.output.gradients(y, targets, 1 / x.size)
        self.adagrad.update(d_output | self.layers.backward(tape, dy).parameters, self.rate)
        return loss / x.size, state

    def probabilities(self, x: Bits, state: Any) -> tuple[NDArray[Any], Any]:
        """P(target = 1) at each step, and the state."""
        y, state = self.layers(x[..., None].astype(np.float32), state)
        logits = self.output.logits(y)
        return 1 / (1 + np.exp(logits[..., 0] - logits[..., 1])), state


def make_windows(rng: np.random.Generator, delay: int) -> fastrnn.Windows:
    """A new series in parallel streams. The first targets of the series have no input and are zeros."""
    x = rng.integers(0, 2, LENGTH)
    targets = np.concatenate([np.zeros(delay, np.int64), x[:-delay]])
    return fastrnn.Windows(x, BATCH_SIZE, NUM_STEPS, targets=targets)


def train_epoch(model: EchoModel, delay: int, forget_state: bool) -> list[float]:
    """The loss of every window. The state is zero at the start of the epoch; with `forget_state`, of every window."""
    windows, losses = make_windows(model.rng, delay), []
    for x, targets, state in windows:
        loss, windows.state = model.update(x, targets, None if forget_state else state)
        losses.append(loss)
    return losses


def evaluate(model: EchoModel, delay: int, forget_state: bool, seed: int) -> tuple[float, float, list[NDArray[Any]]]:
    """Error and mean loss on a test series; and the start of the series: inputs, targets, P(target = 1)."""
    windows = make_windows(np.random.default_rng([seed, 1]), delay)
    found = []
    for x, targets, state in windows:
        p, windows.state = model.probabilities(x, None if forget_state else state)
        found.append((x, targets, p))
    x, targets, p = (np.concatenate(column) for column in zip(*found, strict=True))
    error = float(((p > 0.5) != targets).mean())
    right = np.where(targets == 1, p, 1 - p)
    return error, float(-np.log(np.maximum(right, 1e-30)).mean()), [a[:SHOWN, 0] for a in (x, targets, p)]


def plot(path: Path, losses: list[float], floor: float, shown: list[NDArray[Any]], title: str) -> bool:
    """Draw the loss of every window, and the network's answers beside the targets; False without matplotlib."""
    plt = import_pyplot()
    if plt is None:
        return False
    figure, (above, below) = plt.subplots(2, figsize=(9, 6.5), layout="constrained", height_ratios=[3, 2])
    above.plot(losses, color=TRAIN, linewidth=0.6, label="loss of each window")
    above.axhline(np.log(2), color=REFERENCE, linestyle=":", label="guessing: ln 2")
    above.axhline(floor, color=VALIDATION, linestyle="--", label=f"guessing what lies before the window: {floor:.3f}")
    above.set(xlabel="windows seen", ylabel="nats per step", title=title, ylim=(-0.02, 1.0))
    above.legend(loc="upper right")
    x, targets, p = shown
    step = np.arange(len(x))
    below.step(step, x + 1.4, where="mid", color=REFERENCE, label="input")
    below.step(step, targets, where="mid", color=TRAIN, linewidth=3, alpha=0.6, label="target")
    below.plot(step, p, ".", color=VALIDATION, label="P(target = 1)")
    for start in range(0, len(x) + 1, NUM_STEPS):
        below.axvline(start - 0.5, color=REFERENCE, linewidth=0.5)
    below.set(xlabel="time step; lines are where windows begin", xlim=(-0.5, len(x) - 0.5), ylim=(-0.2, 2.6))
    below.set_yticks([0, 1, 1.4, 2.4], ["0", "1", "0", "1"])
    below.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def parse(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cell", choices=list(CELLS), default="rnn")
    p.add_argument("--layers", type=positive, default=1, metavar="N")
    p.add_argument("--delay", type=positive, default=3, metavar="STEPS")
    p.add_argument("--forget-state", action="store_true", help="start every window from zeros")
    p.add_argument("--epochs", type=positive, default=10, metavar="N")
    p.add_argument("--learning-rate", type=positive_real, default=0.3, metavar="R", help="of Adagrad (default 0.3)")
    p.add_argument("--seed", type=seed, default=0, metavar="N")
    p.add_argument("--plot", type=writable, default="echo_rnn.png", metavar="PATH")
    return p.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    model = EchoModel(options.cell, options.layers, options.learning_rate, options.seed)
    share = min(options.delay, NUM_STEPS) / NUM_STEPS  # of targets with an input before their window
    print(f"{model.layers}\nwithout a carried state: error {share / 2:.3f}, loss {share * np.log(2):.3f} at best")
    losses: list[float] = []
    for epoch in range(1, options.epochs + 1):
        losses += train_epoch(model, options.delay, options.forget_state)
        error, loss, shown = evaluate(model, options.delay, options.forget_state, options.seed)
        print(f"epoch {epoch:2}: error {error:.4f}, loss {loss:.4f}", flush=True)
    title = f"{options.layers} x {options.cell}, echo of {options.delay} steps, windows of {NUM_STEPS}"
    title += ", state forgotten at each window" if options.forget_state else ", state carried"
    if plot(Path(options.plot), losses, share * float(np.log(2)), shown, title):
        print(f"picture: {options.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
