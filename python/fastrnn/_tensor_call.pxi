"""Training calls of fastrnn.torch on one layer and a dense batch, on the memory of tensors: part of _core.pyx."""


cdef class TensorCall:
    """Forward and backward of one layer in one direction, ready for tensors of these shapes.

    x_shape: of x, as torch has it; outlines: of y and a state, see `_tensor_like`; reserve: how many bytes the caller
    should provide, and their outline; strides: (t, b) of x and of y, contiguous otherwise. Gradients are arrays, of
    which from_numpy makes tensors; empty(shape, dtype) makes large ones. A tensor that is not plain, contiguous and of
    its shape is for the general path: then a call returns None.
    """

    cdef Problem problem
    cdef readonly bint packs
    cdef readonly tuple reserve
    cdef object dtype, empty_like, from_numpy, empty, y_outline, state_outline
    cdef cnp.dtype real
    cdef tuple tensor_types, x_shape, y_shape, state_shape
    cdef ptrdiff_t stride_t, stride_b, y_stride_t, y_stride_b
    cdef size_t y_bytes, state_bytes

    def __init__(self, Problem problem not None, x_shape, outlines, reserve, strides, real, torch_names, empty):
        if problem.c.schedule is not NULL:
            raise ValueError("problem: expected a dense one")
        self.problem, self.real, self.packs = problem, real, fastrnn_packing_pays(&problem.plan)
        self.y_outline, self.state_outline = outlines
        self.x_shape = tuple(x_shape)
        self.y_shape, self.state_shape = tuple(self.y_outline.shape), tuple(self.state_outline.shape)
        self.y_bytes = self.y_outline.numel() * self.real.itemsize
        self.state_bytes = self.state_outline.numel() * self.real.itemsize
        self.stride_t, self.stride_b, self.y_stride_t, self.y_stride_b = strides
        self.tensor_types, self.dtype, self.empty_like, self.from_numpy = torch_names
        self.empty, self.reserve = empty, reserve

    cdef bint _find(self, object tensor, object shape, const void **address) except -1:
        """The tensor's memory, null for None; False if the core cannot read it."""
        address[0] = NULL
        if tensor is None:
            return True
        if type(tensor) not in self.tensor_types or tensor.dtype is not self.dtype or not tensor.is_cpu:
            return False
        if tensor.shape != shape or tensor.is_neg() or not tensor.is_contiguous():
            return False
        address[0] = <const void *>_address_of(tensor)
        return address[0] is not NULL and <size_t>address[0] % <size_t>self.real.itemsize == 0

    cdef bint _find_weights(self, object tensors, const void **parameters) except -1:
        cdef Problem p = self.problem
        cdef tuple shapes = (p.w_ih_shape, p.w_hh_shape, p.b_shape, p.b_shape)
        cdef Py_ssize_t j
        if len(tensors) not in (2, 4):
            return False
        for j in range(len(tensors)):
            if not self._find(tensors[j], shapes[j], &parameters[j]):
                return False
        return True

    cdef bint _find_states(self, object h, object c, fastrnn_const_view_t *states) except -1:
        """The views of both; False if the core cannot read them."""
        states[0].stride_b = states[1].stride_b = self.problem.c.H
        return self._find(h, self.state_shape, &states[0].data) and self._find(c, self.state_shape, &states[1].data)

    cdef cnp.ndarray _new(self, tuple shape):
        cdef cnp.npy_intp dims[3]
        cdef cnp.npy_intp size = self.real.itemsize
        cdef int axis
        for axis in range(len(shape)):
            dims[axis] = shape[axis]
            size *= dims[axis]
        if size >= <cnp.npy_intp>POOLED_BYTES_MIN:
            return self.empty(shape, self.real)
        return cnp.PyArray_EMPTY(len(shape), dims, self.real.type_num, 0)

    cdef void *_reserve(self, object tensor) except? NULL:
        """Its memory; null where there is none, or where it does not serve."""
        if tensor is None or not tensor.is_cpu or tensor.element_size() != 1 or not tensor.is_contiguous():
            return NULL
        if <size_t>tensor.numel() < self.problem.plan.sizes.reserve:
            return NULL
        return <void *>_address_of(tensor)

    def forward(self, x, h0, c0, weights, packed, reserve):
        """(y, h_n[, c_n]). packed: of `pack_forward`, where it pays; reserve: a tensor of bytes, filled here."""
        cdef Problem p = self.problem
        cdef fastrnn_arrays_t a
        no_arrays(&a)
        a.packed = _memory(packed, "packed", p.plan.sizes.packed_forward, False)
        a.reserve = self._reserve(reserve)
        if (p.plan.sizes.reserve and a.reserve is NULL) or not self._find(x, self.x_shape, &a.x.data):
            return None
        if not self._find_states(h0, c0, a.initial) or not self._find_weights(weights, a.parameters):
            return None
        y = _tensor_like(self.empty_like, self.y_outline, self.y_bytes, &a.y.data)
        h_n = _tensor_like(self.empty_like, self.state_outline, self.state_bytes, &a.final[0].data)
        c_n = None
        if p.has_c:
            c_n = _tensor_like(self.empty_like, self.state_outline, self.state_bytes, &a.final[1].data)
        a.x.stride_t, a.x.stride_b = self.stride_t, self.stride_b
        a.y.stride_t, a.y.stride_b = self.y_stride_t, self.y_stride_b
        a.final[0].stride_b = a.final[1].stride_b = p.c.H
        scratch = scratch_of(p.plan.sizes.scratch_forward)
        a.scratch = _data(scratch)
        run(&p.plan, FASTRNN_FORWARD, &a)
        return (y, h_n, c_n) if p.has_c else (y, h_n)

    def backward(self, y, x, h0, c0, weights, reserve, dy, dh_n, dc_n, wanted):
        """The gradients of x, h0, c0 and the weights, None where not wanted."""
        cdef Problem p = self.problem
        cdef fastrnn_arrays_t a
        cdef const void *y_data = NULL
        cdef int j, status = FASTRNN_OK
        cdef bint states = wanted[1] or wanted[2]
        no_arrays(&a)
        a.reserve = self._reserve(reserve)
        if p.plan.sizes.reserve and a.reserve is NULL:
            return None
        if not self._find(x, self.x_shape, &a.x.data) or not self._find(y, self.y_shape, &y_data):
            return None
        if not self._find_states(h0, c0, a.initial) or not self._find_states(dh_n, dc_n, a.d_final):
            return None
        if not self._find(dy, self.y_shape, &a.dy.data) or not self._find_weights(weights, a.parameters):
            return None
        dx, dh0 = self._new(self.x_shape) if wanted[0] else None, self._new(self.state_shape) if states else None
        dc0 = self._new(self.state_shape) if states and p.has_c else None
        shapes = (p.w_ih_shape, p.w_hh_shape, p.b_shape, p.b_shape)
        into = [self._new(shapes[j]) if wanted[3 + j] else None for j in range(len(weights))] + [None] * (4 - len(weights))
        a.x.stride_t, a.x.stride_b = self.stride_t, self.stride_b
        a.y = fastrnn_view_t(<void *>y_data, self.y_stride_t, self.y_stride_b)
        a.dy.stride_t, a.dy.stride_b = self.y_stride_t, self.y_stride_b
        a.dx = fastrnn_view_t(_data(dx), self.stride_t, self.stride_b)
        a.d_initial[0], a.d_initial[1] = fastrnn_view_t(_data(dh0), 0, p.c.H), fastrnn_view_t(_data(dc0), 0, p.c.H)
        for j in range(4):
            a.gradients[j] = _data(into[j])
        a.accumulation = FASTRNN_OVERWRITE
        packed = self.empty((p.plan.sizes.packed_backward,), np.dtype(np.uint8)) if self.packs else None
        a.packed = _data(packed)
        scratch = scratch_of(p.plan.sizes.scratch_backward)
        a.scratch = _data(scratch)
        with nogil:
            if a.packed is not NULL:
                status = fastrnn_run(&p.plan, FASTRNN_PACK_BACKWARD, &a)
            status = status if status != FASTRNN_OK else fastrnn_run(&p.plan, FASTRNN_BACKWARD, &a)
        if status != FASTRNN_OK:
            raise_status(status)
        found = [dx, dh0 if wanted[1] else None, dc0 if wanted[2] else None, *into[: len(weights)]]
        return [None if array is None else self.from_numpy(array) for array in found]
