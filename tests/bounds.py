"""How far a correct implementation may be from the exact value: derived from the sizes, not from what was observed.

u = eps/2 is the most by which one operation errs, relatively. A pre-activation is a chain of K = I + H + 2 fused
multiply-adds. Its roundings are independent and unbiased, each at most u·S where S is the largest partial sum, so that
by Hoeffding's inequality their sum exceeds λ·sqrt(K)·u·S with probability below 2·exp(-λ²/2) (Higham & Mary 2019). We
take λ = 4, in units of eps: 2·sqrt(K)·eps. What follows a product in a step (at most four activations of 4 ULP
whose derivatives are at most 1, 1/4 or smaller, and six roundings) adds at most 2·8·eps.

The weights are drawn with variance 1/(I + H), so that a step hands on an error of the expected size that it received,
and errors of T steps at worst add up, those of stacked layers as well.
"""

import numpy as np
from fastrnn.testing import gradients

ACTIVATIONS = 8


def of_values(dtype, I, H, T, layers=1):
    """Of outputs and states, relative to the largest of them or 1."""
    return 2 * np.finfo(dtype).eps * (np.sqrt(I + H + 2) + ACTIVATIONS) * T * layers


def of_gradients(dtype, I, H, T, B, layers=1):
    """Of gradients, relative to the largest of the tensor or 1.

    Backward starts from the errors of forward and commits its own, with chains over all gates (K = 4H); a parameter's
    gradient is then a chain of T·B terms, each with such an error, which add up as sqrt(T·B).
    """
    return gradients.bound(np.dtype(dtype), I, H, T, B, layers)


def assert_within(found, expected, limit, what=""):
    """|found - expected| <= limit * max(1, |expected|), in the larger precision of the two."""
    assert found.shape == expected.shape, what
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    error = float(np.abs(found - expected).max(initial=0))
    assert error <= limit * scale, f"{what}: off by {error:.3g}, allowed {limit * scale:.3g}"
