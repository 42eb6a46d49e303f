"""What users, and our own tests, hold the kernels against, on their own machine and with their own layers.

`reference` has the equations in NumPy, real and complex; `assert_gradients` compares a layer's gradients with their
complex-step derivative; `assert_reproducible` runs a layer in every way that must not change a bit.
"""

from . import reference
from .gradients import assert_gradients
from .reproducibility import assert_reproducible

__all__ = ["assert_gradients", "assert_reproducible", "reference"]
