"""What users, and our own tests, hold the kernels against, on their own machine and with their own layers.

`reference` has the equations in NumPy, real and complex; `assert_values` compares a layer's outputs with them,
`assert_gradients` its gradients with their complex-step derivative; `assert_reproducible` runs a layer in every way
that must not change a bit. `self_test` does all of that for the cells, as ``python -m fastrnn`` shows.
"""

from . import reference
from .gradients import assert_gradients
from .reproducibility import assert_reproducible
from .values import assert_values

__all__ = ["assert_gradients", "assert_reproducible", "assert_values", "reference"]
