"""What calls of a whole stack on dense sequences share, with no Python in between: part of _core.pyx."""

# Smaller arrays come from NumPy: the C library keeps their memory by itself, in less time. A training step at T=1, B=1,
# H=64 takes 57 us with this, 72 with a quarter of it; one at H=128 takes 450 instead of 115 with four times it.
POOLED_BYTES = 256 << 10

cdef size_t POOLED_BYTES_MIN = POOLED_BYTES


def is_readable(array, int type_number):
    """Whether an array of this type number, of any rank but 0, serves the core without a copy."""
    return type(array) is cnp.ndarray and _usable(array, type_number, cnp.PyArray_NDIM(<cnp.ndarray>array))


cdef bint _usable(object array, int type_number, int rank):
    """Whether the core reads this array as it is; everything else is for the general path to convert or to refuse."""
    if type(array) is not cnp.ndarray:
        return False
    cdef cnp.ndarray a = <cnp.ndarray>array
    cdef cnp.npy_intp size = cnp.PyArray_ITEMSIZE(a)
    cdef int axis
    if cnp.PyArray_TYPE(a) != type_number or cnp.PyArray_NDIM(a) != rank or rank == 0:
        return False
    if not cnp.PyArray_ISNOTSWAPPED(a) or not cnp.PyArray_ISALIGNED(a):
        return False
    for axis in range(rank):
        if cnp.PyArray_DIM(a, axis) == 0 or cnp.PyArray_STRIDE(a, axis) % size:
            return False
    return cnp.PyArray_DIM(a, rank - 1) == 1 or cnp.PyArray_STRIDE(a, rank - 1) == size


cdef class Stack:
    """Layers and directions over dense sequences as users have them.

    empty(shape, dtype) makes large arrays, scratch(size) a byte array of at least that size.
    """

    cdef fastrnn_problem_t problem  # T, B and I are set in every call
    cdef int layers, directions, type_number
    cdef bint has_c, batch_first
    cdef int64_t I
    cdef object dtype, empty, scratch

    cdef cnp.ndarray _new(self, int rank, cnp.npy_intp *dims):
        cdef int axis
        cdef cnp.npy_intp count = 1
        for axis in range(rank):
            count *= dims[axis]
        if count * (<cnp.dtype>self.dtype).itemsize < <cnp.npy_intp>POOLED_BYTES_MIN:
            return cnp.PyArray_SimpleNew(rank, dims, self.type_number)
        return self.empty(tuple([dims[axis] for axis in range(rank)]), self.dtype)

    cdef cnp.ndarray _new_sequence(self, int rank, const fastrnn_problem_t *problem, int64_t n):
        cdef cnp.npy_intp shape[3]
        cdef int t_axis = 1 if rank == 3 and self.batch_first else 0
        shape[1 - t_axis] = problem.B
        shape[t_axis], shape[rank - 1] = problem.T, n
        return self._new(rank, shape)

    cdef cnp.ndarray _new_state(self, int rank, int64_t B):
        cdef cnp.npy_intp shape[3]
        shape[0], shape[1] = self.layers * self.directions, B
        shape[rank - 1] = self.problem.H
        return self._new(rank, shape)

    cdef int _rank_of(self, object x):
        """The axes of the input, or 0 if the general path has to look at it."""
        cdef int rank = cnp.PyArray_NDIM(<cnp.ndarray>x) if type(x) is cnp.ndarray else 0
        if rank not in (2, 3) or not _usable(x, self.type_number, rank):
            return 0
        return rank if cnp.PyArray_DIM(<cnp.ndarray>x, rank - 1) == self.I else 0

    cdef void _set_sizes(self, cnp.ndarray x, int rank, fastrnn_problem_t *problem):
        cdef int t_axis = 1 if rank == 3 and self.batch_first else 0
        problem.T, problem.B = cnp.PyArray_DIM(x, t_axis), cnp.PyArray_DIM(x, 1 - t_axis) if rank == 3 else 1

    cdef tuple _states_of(self, object state, int rank, int64_t B):
        """(h, c), either of them None; None if the general path has to look at them."""
        cdef cnp.npy_intp shape[3]
        shape[0], shape[1] = self.layers * self.directions, B
        shape[rank - 1] = self.problem.H
        h = state
        c = None
        if self.has_c and state is not None:
            if type(state) is not tuple or len(<tuple>state) != 2:
                return None
            h, c = <tuple>state
        return (h, c) if self._is_state(h, rank, shape) and self._is_state(c, rank, shape) else None

    cdef bint _is_like(self, object array, cnp.ndarray other):
        cdef int axis, rank = cnp.PyArray_NDIM(other)
        if not _usable(array, self.type_number, rank):
            return False
        for axis in range(rank):
            if cnp.PyArray_DIM(<cnp.ndarray>array, axis) != cnp.PyArray_DIM(other, axis):
                return False
        return True

    cdef fastrnn_const_view_t _read_only(self, cnp.ndarray a, int rank):
        cdef fastrnn_view_t view = self._sequence(a, rank)
        return fastrnn_const_view_t(view.data, view.stride_t, view.stride_b)

    cdef fastrnn_const_view_t _start(self, object state, int rank, int j):
        cdef fastrnn_view_t view = self._state(state, rank, j)
        return fastrnn_const_view_t(view.data, 0, view.stride_b)

    cdef bint _is_state(self, object state, int rank, cnp.npy_intp *shape):
        cdef int axis
        if state is None:
            return True
        if not _usable(state, self.type_number, rank):
            return False
        for axis in range(rank):
            if cnp.PyArray_DIM(<cnp.ndarray>state, axis) != shape[axis]:
                return False
        return True

    cdef fastrnn_view_t _sequence(self, cnp.ndarray a, int rank):
        """A view (T, B, n) of a sequence array as the user has it."""
        cdef cnp.npy_intp size = cnp.PyArray_ITEMSIZE(a)
        cdef int t_axis = 1 if rank == 3 and self.batch_first else 0
        cdef ptrdiff_t stride_b = cnp.PyArray_STRIDE(a, 1 - t_axis) // size if rank == 3 else 0
        return fastrnn_view_t(cnp.PyArray_DATA(a), cnp.PyArray_STRIDE(a, t_axis) // size, stride_b)

    cdef fastrnn_view_t _state(self, object state, int rank, int j):
        """The view (B, H) of layer and direction j; a null one for None."""
        cdef fastrnn_view_t view = fastrnn_view_t(NULL, 0, 0)
        if state is not None:
            view.data = cnp.PyArray_BYTES(<cnp.ndarray>state) + j * cnp.PyArray_STRIDE(<cnp.ndarray>state, 0)
            if rank == 3:
                view.stride_b = cnp.PyArray_STRIDE(<cnp.ndarray>state, 1) // cnp.PyArray_ITEMSIZE(<cnp.ndarray>state)
        return view
