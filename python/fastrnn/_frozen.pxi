"""Inference of a frozen stack on the commonest arguments, without Python in between: part of _core.pyx."""


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


cdef class FrozenStack:
    """Layers and directions with packed weights (in the order of torch's parameters).

    empty(shape, dtype) makes large arrays, scratch(size) a byte array of at least that size.
    """

    cdef fastrnn_problem_t problem  # T, B and I are set in every call
    cdef int layers, directions, type_number
    cdef bint has_c, batch_first
    cdef int64_t I
    cdef tuple packed
    cdef object dtype, empty, scratch

    def __cinit__(self, str cell, dtype, int backend, int64_t I, int64_t H, int layers, int directions,
                  bint batch_first, tuple packed, empty, scratch):
        cdef Problem of_layer
        cdef int j
        if len(packed) != layers * directions or directions not in (1, 2):
            raise ValueError("packed: expected weights for each layer and direction")
        for j in range(layers * directions):
            of_layer = Problem(cell, dtype, backend, 1, 0, 0, I if j < directions else directions * H, H)
            _memory(packed[j], "packed", of_layer.sizes.packed_forward, False)
        self.problem, self.type_number, self.has_c = of_layer.c, of_layer.type_number, of_layer.has_c
        self.layers, self.directions, self.batch_first, self.I = layers, directions, batch_first, I
        self.packed, self.dtype, self.empty, self.scratch = packed, np.dtype(dtype), empty, scratch

    cdef cnp.ndarray _new(self, int rank, cnp.npy_intp *dims):
        cdef int axis
        cdef cnp.npy_intp count = 1
        for axis in range(rank):
            count *= dims[axis]
        if count <= 4096:
            return cnp.PyArray_SimpleNew(rank, dims, self.type_number)
        return self.empty(tuple([dims[axis] for axis in range(rank)]), self.dtype)

    def run(self, x, state, int threads, bint all_threads):
        """(y, state) as the layer returns them; None if the general path has to look at the arguments."""
        cdef int rank = cnp.PyArray_NDIM(<cnp.ndarray>x) if type(x) is cnp.ndarray else 0
        if rank not in (2, 3) or not _usable(x, self.type_number, rank):
            return None
        cdef cnp.ndarray input_ = <cnp.ndarray>x
        cdef int64_t T, B, H = self.problem.H
        cdef int t_axis = 1 if rank == 3 and self.batch_first else 0
        T, B = cnp.PyArray_DIM(input_, t_axis), cnp.PyArray_DIM(input_, 1 - t_axis) if rank == 3 else 1
        if cnp.PyArray_DIM(input_, rank - 1) != self.I:
            return None
        cdef cnp.npy_intp states[3]
        states[0], states[1] = self.layers * self.directions, B
        states[rank - 1] = H
        h0 = c0 = None
        if state is not None:
            if self.has_c:
                if type(state) is not tuple or len(<tuple>state) != 2:
                    return None
                h0, c0 = <tuple>state
            else:
                h0 = state
            if not self._is_state(h0, rank, states) or not self._is_state(c0, rank, states):
                return None
        h_n, c_n = self._new(rank, states), self._new(rank, states) if self.has_c else None
        y = self._run(input_, rank, T, B, h0, c0, h_n, c_n, threads, all_threads)
        return y, ((h_n, c_n) if self.has_c else h_n)

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

    cdef cnp.ndarray _run(self, cnp.ndarray x, int rank, int64_t T, int64_t B, h0, c0, h_n, c_n, int threads,
                          bint all_threads):
        cdef fastrnn_problem_t problem = self.problem
        cdef fastrnn_forward_args_t args
        cdef fastrnn_sizes_t sizes
        cdef fastrnn_view_t source, target, source_state
        cdef cnp.npy_intp shape[3]
        cdef cnp.ndarray y = x, scratch
        cdef int layer, direction, j, status
        cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(x)
        cdef int t_axis = 1 if rank == 3 and self.batch_first else 0
        problem.T, problem.B, problem.threads = T, B, threads
        problem.team = FASTRNN_TEAM_ALL if all_threads else FASTRNN_TEAM_PAYING
        shape[1 - t_axis] = B
        shape[t_axis], shape[rank - 1] = T, self.directions * problem.H
        for layer in range(self.layers):
            problem.I = self.I if layer == 0 else self.directions * problem.H
            status = fastrnn_query(&problem, &sizes)
            if status != FASTRNN_OK:
                _raise(status)
            scratch = self.scratch(sizes.scratch_forward)
            source = self._sequence(x, rank)
            y = self._new(rank, shape)
            for direction in range(self.directions):
                j = layer * self.directions + direction
                target = self._sequence(y, rank)
                target.data = <char *>target.data + direction * problem.H * item
                args.x = fastrnn_const_view_t(source.data, source.stride_t, source.stride_b)
                if direction == 1:  # the same loop over views that run backwards
                    args.x.data = <const char *>args.x.data + (T - 1) * source.stride_t * item
                    args.x.stride_t = -source.stride_t
                    target.data = <char *>target.data + (T - 1) * target.stride_t * item
                    target.stride_t = -target.stride_t
                args.packed = cnp.PyArray_DATA(<cnp.ndarray>self.packed[j])
                args.y, args.c = target, fastrnn_view_t(NULL, 0, 0)
                args.h_n, args.c_n = self._state(h_n, rank, j), self._state(c_n, rank, j)
                source_state = self._state(h0, rank, j)
                args.h0 = fastrnn_const_view_t(source_state.data, 0, source_state.stride_b)
                source_state = self._state(c0, rank, j)
                args.c0 = fastrnn_const_view_t(source_state.data, 0, source_state.stride_b)
                args.reserve, args.scratch = NULL, cnp.PyArray_DATA(scratch)
                with nogil:
                    status = fastrnn_forward(&problem, &args)
                if status != FASTRNN_OK:
                    _raise(status)
            x = y
        return y
