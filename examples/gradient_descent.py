"""Updates from gradients: clipping by the global norm, plain descent, Adagrad, Adam. All work in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def gradient_norm(gradients: dict[str, Array]) -> float:
    """The norm of all gradients together: one pass over each gradient, without a copy."""
    squares = 0.0
    for gradient in gradients.values():
        rows = gradient.reshape(-1, gradient.shape[-1])
        squares += float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))
    return float(np.sqrt(squares))


def clip_gradients(gradients: dict[str, Array], limit: float) -> float:
    """Scale all gradients so that their global norm is at most `limit`; return the norm before scaling."""
    norm = gradient_norm(gradients)
    if norm > limit:
        for gradient in gradients.values():
            gradient *= limit / norm
    return norm


def descend(parameters: dict[str, Array], gradients: dict[str, Array], rate: float) -> None:
    """One step of gradient descent. It overwrites the gradients, which saves a temporary array for each gradient."""
    for name, gradient in gradients.items():
        gradient *= rate
        parameters[name] -= gradient


class Adagrad:
    """Adagrad (Duchi et al. 2011); the sums of squares start from `initial`, as in TensorFlow."""

    def __init__(self, parameters: dict[str, Array], initial: float = 0.1) -> None:
        self.parameters = parameters
        self.square = {name: np.full_like(array, initial) for name, array in parameters.items()}

    def update(self, gradients: dict[str, Array], rate: float) -> None:
        for name, gradient in gradients.items():
            self.square[name] += gradient * gradient
            self.parameters[name] -= rate * gradient / np.sqrt(self.square[name])


class Adam:
    """Adam (Kingma & Ba 2015)."""

    def __init__(self, parameters: dict[str, Array], beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.parameters, self.beta1, self.beta2, self.steps = parameters, beta1, beta2, 0
        self.mean = {name: np.zeros_like(array) for name, array in parameters.items()}
        self.square = {name: np.zeros_like(array) for name, array in parameters.items()}

    def update(self, gradients: dict[str, Array], rate: float) -> None:
        """Move every parameter by one step of size `rate`."""
        self.steps += 1
        rate *= float(np.sqrt(1 - self.beta2**self.steps)) / (1 - self.beta1**self.steps)
        for name, gradient in gradients.items():
            mean, square = self.mean[name], self.square[name]
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient * gradient - square)
            self.parameters[name] -= rate * mean / (np.sqrt(square) + 1e-8)
