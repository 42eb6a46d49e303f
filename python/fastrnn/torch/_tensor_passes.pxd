# Passes over tensors; see _tensor_passes.pyx.
from .._plan cimport Plan


cdef list parameters_of(Plan plan, object weights)
