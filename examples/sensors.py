"""Recurrent layers on arrays of measurements with several values per time step: batch, time steps and values.

1. Forecasting: a smart watch's six values, half a second ahead, from all values before.
2. Classification of recordings of equal length: the activity of the watch's wearer.
3. Classification of sequences of different lengths: who is speaking.

    pip install '.[examples]' && python examples/sensors.py         # half a minute

Each result is compared with simple methods, which are hard to beat on so little data.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# NumPy's products are small here, and the threads of its BLAS would spin on the cores that the layers use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from gradient_descent import Adam, clip_gradients
from sensor_baselines import last_value, linear_regression, logistic_regression
from sensor_data import Array, read_motions, read_vowels, scaling_of
from sensor_figure import draw_forecasts
from sensor_models import Classifier, Forecaster, targets_of
from training_options import positive, seed

HORIZON = 5  # time steps ahead, at ten steps per second
SKIPPED = 20  # first time steps, which do not count: there is too little data to forecast from
BATCHES = 8  # updates per epoch


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    forecast_motions(options)
    classify_motions(options)
    classify_vowels(options)
    return 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--hidden-size", type=positive, default=64, metavar="N")
    p.add_argument("--epochs", type=positive, default=60, metavar="N")
    p.add_argument("--seed", type=seed, default=0, metavar="N")
    p.add_argument("--figure", type=Path, default=Path("sensors.png"), metavar="PATH", help="of the forecasts")
    return p


def forecast_motions(options: argparse.Namespace) -> dict[str, Array]:
    """Errors of each method, by steps ahead."""
    print("1. A watch's values, half a second ahead")
    train, test = read_motions("train"), read_motions("test")
    scaling = scaling_of(train.x)  # each of the six values has its own unit and range
    x, x_test = scaling(train.x), scaling(test.x)
    show_shape("x", x, "T time steps of 0.1 s, B recordings, I values: acceleration and rotation in 3 axes each")
    model = Forecaster(x.shape[2], options.hidden_size, HORIZON, seed=options.seed)
    show_shape("forecasts", model(x), "at each time step of each recording: the next 5 steps of all values")
    # The batch axis can be indexed freely, since sequences are independent. A quarter of them decides when to stop.
    held_out = np.arange(x.shape[1]) % 4 == 3
    learned, validation = x[:, ~held_out], x[:, held_out]
    fit(
        model,
        options,
        learned.shape[1],
        lambda chosen: model.gradients(learned[:, chosen]),
        lambda: float(errors_by_step(model(validation), validation).mean()),
    )
    methods = {
        "last value": last_value(x_test, HORIZON),
        "linear regression": linear_regression(x, x_test, HORIZON),
        "GRU": model(x_test),
    }
    errors = {name: errors_by_step(forecasts, x_test) for name, forecasts in methods.items()}
    print(f"   root mean square errors on {x_test.shape[1]} other recordings, in standard deviations, by steps ahead:")
    for name, error in errors.items():
        print(f"   {name:20}" + "".join(f"{value:7.3f}" for value in error))
    walking = test.activities.index("walking")
    draw_forecasts(options.figure, x_test[:, walking], methods["GRU"][:, walking], errors)
    print(f"   forecasts of one recording: {options.figure}")
    return errors


def errors_by_step(forecasts: Array, x: Array) -> Array:
    """(T, B, horizon, I) against x (T, B, I) -> (horizon,): root mean square over time, recordings and values."""
    difference = (forecasts[:-HORIZON] - targets_of(x, HORIZON))[SKIPPED:]
    error: Array = np.sqrt((difference**2).mean(axis=(0, 1, 3)))
    return error


def classify_motions(options: argparse.Namespace) -> dict[str, float]:
    """The share of recordings that each method classifies correctly."""
    print("2. What the watch's wearer is doing: standing, walking, running or badminton")
    train, test = read_motions("train"), read_motions("test")
    names = sorted(set(train.activities))
    classes, classes_test = (np.array([names.index(a) for a in split.activities]) for split in (train, test))
    scaling = scaling_of(train.x)
    x, x_test = scaling(train.x), scaling(test.x)
    show_shape("x", x, "T time steps, B recordings, I values; the state after the last step names the activity")
    model = Classifier(x.shape[2], options.hidden_size, len(names), seed=options.seed)
    fit(model, options, x.shape[1], lambda chosen: model.gradients(x[:, chosen], None, classes[chosen]))
    shares = {"logistic regression": share(logistic_regression(x, classes, x_test), classes_test)}
    for seconds in (1, 2, 5, 10):
        shares[f"GRU, after {seconds} s"] = share(model(x_test[: 10 * seconds], None), classes_test)
    show_shares(shares, len(classes_test), "recordings")
    return shares


def classify_vowels(options: argparse.Namespace) -> dict[str, float]:
    """The share of utterances that each method classifies correctly."""
    print("3. Which of nine men says two vowels")
    train, test = read_vowels("train"), read_vowels("test")
    scaling = scaling_of(train.x, train.lengths)
    x, x_test = scaling(train.x), scaling(test.x)
    show_shape("x", x, "T time steps of the longest utterance, B utterances, I cepstrum coefficients")
    show_shape("lengths", train.lengths, f"B numbers, {train.lengths.min()} to {train.lengths.max()}")
    print(f"   {train.lengths.sum():,} of the {x.shape[0] * x.shape[1]:,} steps are there; the others cost nothing")
    model = Classifier(x.shape[2], options.hidden_size, 9, seed=options.seed)
    fit(
        model,
        options,
        x.shape[1],
        lambda chosen: model.gradients(x[:, chosen], train.lengths[chosen], train.speakers[chosen]),
    )
    # The layers never read values beyond an utterance's end; a regression reads zeros there.
    x[beyond(x, train.lengths)] = x_test[beyond(x_test, test.lengths)] = 0
    shares = {
        "logistic regression": share(logistic_regression(x, train.speakers, x_test), test.speakers),
        "GRU": share(model(x_test, test.lengths), test.speakers),
    }
    show_shares(shares, len(test.speakers), "utterances")
    return shares


def fit(
    model: Any,
    options: argparse.Namespace,
    count: int,
    gradients_of: Callable[[Array], tuple[float, dict[str, Array]]],
    validation_error: Callable[[], float] | None = None,
) -> None:
    """Train on `count` sequences, a few at a time; with validation, keep the parameters of the lowest error."""
    adam, rng = Adam(model.parameters), np.random.default_rng(options.seed)
    best = float("inf")
    kept: dict[str, Array] = {}
    for epoch in range(options.epochs):
        for chosen in np.array_split(rng.permutation(count), BATCHES):
            _, gradients = gradients_of(chosen)
            clip_gradients(gradients, 1.0)
            adam.update(gradients, 3e-3 * (1 - epoch / options.epochs))
        error = validation_error() if validation_error else -epoch
        if error < best:
            best, kept = error, {name: array.copy() for name, array in model.parameters.items()}
    for name, array in kept.items():
        model.parameters[name][...] = array


def beyond(x: Array, lengths: Array) -> Array:
    """(T, B): True for time steps that are padding."""
    padding: Array = np.arange(len(x))[:, None] >= lengths
    return padding


def share(found: Array, classes: Array) -> float:
    return float((found == classes).mean())


def show_shape(name: str, array: Array, meaning: str) -> None:
    print(f"   {name} {array.shape}: {meaning}")


def show_shares(shares: dict[str, float], count: int, what: str) -> None:
    print(f"   classified correctly, of {count} other {what}:")
    for name, right in shares.items():
        print(f"   {name:20} {right:.1%}")


if __name__ == "__main__":
    sys.exit(main())
