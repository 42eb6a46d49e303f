"""Checks of the kernels for users and for our own tests, on their own machine and with their own layers.

`reference` has the equations in NumPy, real and complex; `assert_values` compares a layer's outputs with them,
`assert_gradients` compares its gradients with their complex-step derivative; `assert_reproducible` runs a layer with
every variation that must not change a bit. `self_test` runs all checks for the cells; ``python -m fastrnn`` shows them.
"""

from . import reference
from .gradients import assert_gradients
from .reproducibility import assert_reproducible
from .values import assert_values

__all__ = ["assert_gradients", "assert_reproducible", "assert_values", "reference"]
