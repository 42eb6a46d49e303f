# Tensors as the arrays of a plan; see _tensor_arrays.pyx.
cimport numpy as cnp
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t

from .._core cimport fastrnn_view_t
from .._plan cimport Arrays, StateView


cdef class TensorArrays(Arrays):
    cdef object y_outline, state_outline, empty_like, from_numpy, no_bytes
    cdef size_t y_bytes, state_bytes
    cdef int64_t rows, width, B, H
    cdef bint saves

    cdef fastrnn_view_t contiguous_sequence(self, void *data, ptrdiff_t n) noexcept
    cdef StateView contiguous_states(self, void *data) noexcept
    cdef cnp.ndarray new_gradient(self, object parameter)
