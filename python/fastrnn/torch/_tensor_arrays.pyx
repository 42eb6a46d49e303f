# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""torch's tensors, and arrays beside them, as the arrays of a plan."""

import torch

from .. import memory
from ._tensor_memory import array_on

cimport numpy as cnp
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t
from libc.string cimport memset

from .._core cimport fastrnn_view_t
from .._plan cimport Arrays, StateView
from ._tensor_memory cimport address_of, tensor_like

cnp.import_array()

cdef object _CONTIGUOUS = torch.contiguous_format
cdef size_t POOLED_BYTES_MIN = memory.POOLED_BYTES_MIN


cdef class TensorArrays(Arrays):
    """Tensors of a call with these sizes, and arrays.

    outlines: of the output, None if nobody reads it, and of a final state, see `tensor_like`; names: torch.empty_like,
    torch.from_numpy and an outline of 0 bytes; grid, B, H: rows of sequences, batch and hidden size; saves: whether the
    cell has a reserve.
    """

    def __init__(self, kind, dtype, outlines, names, grid, int64_t B, int64_t H, bint saves):
        self.saves = saves
        self.y_outline, self.state_outline = outlines
        self.empty_like, self.from_numpy, self.no_bytes = names
        self.rows, self.width = grid
        self.B, self.H = B, H
        self.y_bytes = 0 if self.y_outline is None else self.y_outline.numel() * self.item
        self.state_bytes = self.state_outline.numel() * self.item

    cdef void *address(self, object a) except? NULL:
        cdef size_t found
        if a is None:
            return NULL
        if type(a) is cnp.ndarray:
            return cnp.PyArray_DATA(<cnp.ndarray>a)
        found = address_of(a)
        if found == 0 and a.numel() > 0:
            raise RuntimeError("tensor: its storage was resized to 0 bytes and holds no memory")
        return <void *>found

    cdef fastrnn_view_t contiguous_sequence(self, void *data, ptrdiff_t n) noexcept:
        cdef fastrnn_view_t view = fastrnn_view_t(data, 0, 0)
        if self.t_axis >= 0:
            view.stride_t = n if self.b_axis < self.t_axis else self.width * n
        if self.b_axis >= 0:
            view.stride_b = self.rows * n if 0 <= self.t_axis and self.b_axis < self.t_axis else n
        return view

    cdef fastrnn_view_t sequence(self, object a) except *:
        cdef fastrnn_view_t view
        if a is None or type(a) is cnp.ndarray:
            return Arrays.sequence(self, a)
        if a.is_contiguous():
            return self.contiguous_sequence(self.address(a), a.size(-1))
        view = fastrnn_view_t(self.address(a), 0, 0)
        strides = a.stride()
        if len(strides) == 2 and self.t_axis >= 0 and self.b_axis >= 0:  # rows of a dense batch
            view.stride_t, view.stride_b = self.width * <ptrdiff_t>strides[0], strides[0]
            return view
        if self.t_axis >= 0:
            view.stride_t = strides[self.t_axis]
        if self.b_axis >= 0:
            view.stride_b = strides[self.b_axis]
        return view

    cdef StateView contiguous_states(self, void *data) noexcept:
        return StateView(<char *>data, self.B * self.H * self.item if self.j_axis >= 0 else 0, self.H)

    cdef StateView states_view(self, object a) except *:
        cdef StateView view
        if a is None or type(a) is cnp.ndarray:
            return Arrays.states_view(self, a)
        if a.is_contiguous():
            return self.contiguous_states(self.address(a))
        view = StateView(<char *>self.address(a), 0, 0)
        strides = a.stride()
        if self.j_axis >= 0:
            view.step = <ptrdiff_t>strides[self.j_axis] * self.item
        if self.state_b_axis >= 0:
            view.stride_b = strides[self.state_b_axis]
        return view

    cdef cnp.ndarray new_gradient(self, object parameter):
        """An array of a parameter's shape."""
        cdef cnp.npy_intp dims[2]
        cdef int rank = parameter.dim()
        dims[0] = parameter.size(0)
        if rank > 1:
            dims[1] = parameter.size(1)
        return self.new_array(rank, dims)

    cdef object new_bytes(self, size_t size):
        if size >= POOLED_BYTES_MIN:  # on a page of its own
            return self.from_numpy(memory.empty((size,), memory.BYTES))
        return self.no_bytes.new_empty(size)

    cdef object new_sequence(self, int64_t T, int64_t B, int64_t n, bint zero, fastrnn_view_t *view):
        cdef void *data
        if self.y_outline is None:
            return Arrays.new_sequence(self, T, B, n, zero, view)
        tensor = tensor_like(self.empty_like, self.y_outline, self.y_bytes, &data)
        if zero and self.y_bytes:
            memset(data, 0, self.y_bytes)
        view[0] = self.contiguous_sequence(data, n)
        return tensor

    cdef object new_states(self, int64_t count, int64_t B, int64_t H, StateView *view):
        cdef void *data
        tensor = tensor_like(self.empty_like, self.state_outline, self.state_bytes, &data)
        view[0] = self.contiguous_states(data)
        return tensor

    def inside(self, a):
        a = a if type(a) is cnp.ndarray else array_on(a, self.dtype)
        if a.ndim == 2 and self.t_axis >= 0 and self.b_axis >= 0:  # rows of a dense batch
            return a.reshape(self.rows, self.width, -1)
        return Arrays.inside(self, a)

    def states_inside(self, a):
        return Arrays.states_inside(self, a if a is None or type(a) is cnp.ndarray else array_on(a, self.dtype))
