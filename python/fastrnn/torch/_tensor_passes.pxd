# The passes of a plan over tensors; see _tensor_passes.pyx.
from .._plan cimport Plan
from ._tensor_arrays cimport TensorArrays


cdef list parameters_of(Plan plan, object weights)


cdef class Job:
    cdef readonly object description
    cdef readonly Plan plan
    cdef TensorArrays arrays
    cdef list packed
    cdef object masks, starting
    cdef int mask_count
    cdef tuple aliases
    cdef list parameters

    cdef void repeat_with(self, tuple aliases, list parameters) noexcept
    cdef Job with_packed(self, list packed)
    cdef list parameters_of(self, object weights)
