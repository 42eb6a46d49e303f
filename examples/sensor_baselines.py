"""Simple methods for measured series, to compare recurrent layers with."""

from __future__ import annotations

import numpy as np
from sensor_data import Array
from sensor_models import targets_of

LAGS = 10  # time steps that the regression sees
PENALTY = 100.0  # of the regression's squared weights


def last_value(x: Array, horizon: int) -> Array:
    """(T, B, I) -> (T, B, horizon, I): forecast that nothing changes."""
    return np.repeat(x[:, :, None], horizon, axis=2)


def linear_regression(x: Array, x_new: Array, horizon: int) -> Array:
    """Forecasts in x_new by a linear function of the last LAGS steps, fitted to x by least squares with a penalty."""
    targets = targets_of(x, horizon)
    seen = _lagged(x)[:-horizon].reshape(-1, LAGS * x.shape[2])
    wanted = targets.reshape(len(seen), -1)
    weights = np.linalg.solve(seen.T @ seen + PENALTY * np.eye(seen.shape[1]), seen.T @ wanted)
    forecasts: Array = (_lagged(x_new) @ weights).reshape(*x_new.shape[:2], horizon, x_new.shape[2])
    return forecasts


def _lagged(x: Array) -> Array:
    """(T, B, I) -> (T, B, LAGS*I): each time step and the previous steps; zeros before the first step."""
    T = len(x)
    before = np.concatenate([np.zeros((LAGS - 1, *x.shape[1:]), x.dtype), x])
    return np.concatenate([before[j : j + T] for j in range(LAGS)], axis=2)


def logistic_regression(x: Array, classes: Array, x_new: Array) -> Array:
    """Classes of the sequences in x_new, each flattened to one vector: its time steps side by side."""
    from sklearn.linear_model import LogisticRegression

    def flat(sequences: Array) -> Array:
        padded = np.zeros((max(len(x), len(x_new)), *sequences.shape[1:]))
        padded[: len(sequences)] = sequences
        return padded.transpose(1, 0, 2).reshape(sequences.shape[1], -1)

    found: Array = LogisticRegression(max_iter=5000).fit(flat(x), classes).predict(flat(x_new))
    return found
