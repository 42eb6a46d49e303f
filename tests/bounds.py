"""Bounds on the errors of a correct implementation, derived from the sizes and not from observed errors.

fastrnn.testing, which users see, has the derivations.
"""

import numpy as np
from fastrnn.testing import gradients, values


def of_values(dtype, I, H, T, layers=1):
    """Bound for outputs and states, relative to the largest of them or 1."""
    return values.bound_of_values(np.dtype(dtype), I, H, T, layers)


def of_gradients(dtype, I, H, T, B, layers=1):
    """Bound for gradients, relative to the largest of the tensor or 1.

    Backward inherits the errors of forward and adds its own, with chains over all gates (K = 4H). The gradient of a
    parameter is then a chain of T·B terms, each with such an error; these errors add up as sqrt(T·B).
    """
    return gradients.bound(np.dtype(dtype), I, H, T, B, layers)


def assert_within(found, expected, limit, what=""):
    """Assert |found - expected| <= limit * max(1, |expected|), in the larger precision of the two."""
    assert found.shape == expected.shape, what
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    error = float(np.abs(found - expected).max(initial=0))
    assert error <= limit * scale, f"{what}: off by {error:.3g}, allowed {limit * scale:.3g}"
