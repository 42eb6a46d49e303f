"""Short inference calls of fastrnn.torch that repeat one made before: part of _core.pyx."""


def same_bytes(arrays, copies, int threads):
    """Whether every array equals its copy in every bit, read by at most `threads` threads. All are contiguous."""
    cdef cnp.ndarray a, b
    cdef size_t size
    cdef int same
    cdef const void *one
    cdef const void *other
    for array, copy in zip(arrays, copies, strict=True):
        if not isinstance(array, cnp.ndarray) or not isinstance(copy, cnp.ndarray):
            raise TypeError("arrays, copies: expected NumPy arrays")
        a, b = <cnp.ndarray>array, <cnp.ndarray>copy
        size = cnp.PyArray_NBYTES(a)
        if size != <size_t>cnp.PyArray_NBYTES(b):
            return False
        if not cnp.PyArray_IS_C_CONTIGUOUS(a) or not cnp.PyArray_IS_C_CONTIGUOUS(b):
            raise ValueError("arrays, copies: expected contiguous arrays")
        one, other = cnp.PyArray_DATA(a), cnp.PyArray_DATA(b)
        with nogil:
            same = fastrnn_same_bytes(one, other, size, threads)
        if not same:
            return False
    return True


cdef void *_part(void *whole, size_t offset) noexcept:
    if whole is NULL:
        return NULL
    return <char *>whole + offset


cdef void *_data(object array) noexcept:
    if array is None:
        return NULL
    return cnp.PyArray_DATA(<cnp.ndarray>array)


cdef class Repeat:
    """A dense inference call of a stack, on tensors of torch, that is like one made before.

    A short call takes less time than the Python around it. So everything that such a call needs is kept: problems
    (one for each layer), packed weights, and what they were packed from. A call compares (what tensors are, the bytes
    of the parameters, the thread's state) and runs the kernels, or returns None: then something is different.

    configuration: attributes of the module, by name, which must be as they were. names: of its parameters; weights:
    those tensors, None for an absent one; aliases: tensors on their memory; views, copies: arrays on their memory, and their contents when they were packed. states: the shape of
    a state, y: of the output or None if it is the final h; strides (t, b): of the input, its last axis and all else
    being contiguous. thread: functions whose results must be false; settings: a function, and its result.
    """

    cdef tuple attributes, values, problems, packed, names, weights, aliases, views, copies, thread
    cdef object tensor_type, dtype, from_numpy, x_shape, state_shape, y_shape, settings, setting
    cdef cnp.dtype real
    cdef ptrdiff_t stride_t, stride_b, y_stride_t, y_stride_b
    cdef int layers, directions
    cdef bint has_c
    cdef size_t scratch_bytes, hidden_bytes

    def __init__(self, configuration, problems, packed, parameters, views, copies, shapes, strides, torch_names,
                 thread, settings):
        cdef Problem p
        self.attributes, self.values = tuple(configuration), tuple(configuration.values())
        self.problems, self.packed = tuple(problems), tuple(packed)
        self.names, self.weights, self.aliases = parameters
        self.views, self.copies = tuple(views), tuple(copies)
        self.x_shape, self.y_shape, self.state_shape = shapes
        self.stride_t, self.stride_b, self.y_stride_t, self.y_stride_b = strides
        self.tensor_type, self.dtype, self.from_numpy = torch_names
        self.thread, self.settings = tuple(thread), settings
        self.setting = settings()
        self.layers = len(self.problems)
        self.directions = len(self.packed) // self.layers
        self.scratch_bytes, self.hidden_bytes = 0, 0
        for p in self.problems:
            if p.c.schedule is not NULL:
                raise ValueError("problems: expected dense ones")
            self.scratch_bytes = max(self.scratch_bytes, p.sizes.scratch_forward)
        p = self.problems[0]
        self._check_sizes(p.c.T, p.c.B, p.c.H)
        self.has_c, self.real = p.has_c, self.views[0].dtype
        self.hidden_bytes = <size_t>(p.c.T * p.c.B * p.c.H * self.directions) * self.real.itemsize
        for j, array in enumerate(self.packed):
            p = self.problems[j // self.directions]
            _memory(array, "packed", p.sizes.packed_forward, False)

    cdef int _check_sizes(self, int64_t T, int64_t B, int64_t H) except -1:
        cdef Problem p
        cdef int64_t width = self.directions * H
        if len(self.packed) != self.layers * self.directions or self.directions not in (1, 2):
            raise ValueError("packed: expected weights for each layer and direction")
        for j, p in enumerate(self.problems):
            if p.c.T != T or p.c.B != B or p.c.H != H or (j > 0 and p.c.I != width):
                raise ValueError("problems: expected those of one stack")
        p = self.problems[0]
        if math.prod(self.x_shape) != T * B * p.c.I or math.prod(self.state_shape) != len(self.packed) * B * H:
            raise ValueError("shapes: expected those of the problems")
        if self.y_shape is not None and math.prod(self.y_shape) != T * B * width:
            raise ValueError("shapes: expected those of the problems")
        return 0

    cdef void *_address(self, object tensor, object shape) except? NULL:
        """Of a tensor's numbers if it is plain, contiguous and of this shape; else null."""
        if type(tensor) is not self.tensor_type or tensor.dtype is not self.dtype or not tensor.is_cpu:
            return NULL
        if tensor.shape != shape or tensor.is_neg() or not tensor.is_contiguous():
            return NULL
        cdef size_t address = tensor.data_ptr()
        return NULL if address % <size_t>self.real.itemsize else <void *>address

    cdef bint _is_current(self, dict attributes) except -1:
        cdef Py_ssize_t j
        parameters = attributes["_parameters"]
        if not isinstance(parameters, dict):  # torch before 2.5 has an OrderedDict
            return False
        for j in range(len(self.attributes)):
            value = attributes.get(self.attributes[j])
            if value is not self.values[j] and value != self.values[j]:
                return False
        for j in range(len(self.names)):
            weight = self.weights[j]
            if (<dict>parameters).get(self.names[j]) is not weight:
                return False
            if weight is not None and not weight.is_set_to(self.aliases[j]):
                return False
        return same_bytes(self.views, self.copies, self.setting[1])

    def __call__(self, dict attributes, x, hx, scratch_of):
        """(y, h_n, c_n) of a module with these attributes, or None.

        None for y where it was not asked for, None for c_n where there is none.
        """
        cdef fastrnn_const_view_t x_view
        cdef char *h0 = NULL
        cdef char *c0 = NULL
        for function in self.thread:
            if function():
                return None
        x_view = fastrnn_const_view_t(self._address(x, self.x_shape), self.stride_t, self.stride_b)
        if x_view.data is NULL or self.settings() != self.setting:
            return None
        if hx is not None:
            h = hx
            if self.has_c:
                if type(hx) is not tuple or len(<tuple>hx) != 2:
                    return None
                h = (<tuple>hx)[0]
                c0 = <char *>self._address((<tuple>hx)[1], self.state_shape)
                if c0 is NULL:
                    return None
            h0 = <char *>self._address(h, self.state_shape)
            if h0 is NULL:
                return None
        if not self._is_current(attributes):
            return None
        h_n = self._empty(self.state_shape)
        c_n = self._empty(self.state_shape) if self.has_c else None
        y = None if self.y_shape is None else self._empty(self.y_shape)
        cdef cnp.ndarray scratch = scratch_of(self.scratch_bytes)
        if <size_t>cnp.PyArray_NBYTES(scratch) < self.scratch_bytes:
            raise ValueError("scratch: too small")
        self._run(x_view, h0, c0, _data(y), <char *>_data(h_n), <char *>_data(c_n), scratch)
        return (
            None if y is None else self.from_numpy(y),
            self.from_numpy(h_n),
            self.from_numpy(c_n) if self.has_c else None,
        )

    cdef object _empty(self, tuple shape):
        cdef cnp.npy_intp dims[3]
        cdef int axis
        for axis in range(len(shape)):
            dims[axis] = shape[axis]
        return cnp.PyArray_EMPTY(len(shape), dims, self.real.type_num, 0)

    cdef int _run(
        self, fastrnn_const_view_t x, char *h0, char *c0, void *y, char *h_n, char *c_n, cnp.ndarray scratch
    ) except -1:
        """Up the stack. Outputs between layers, and of a cell, are (T, B, D*H) in memory of their own."""
        cdef Problem p = self.problems[0]
        cdef fastrnn_forward_args_t a
        cdef fastrnn_view_t top
        cdef size_t size = self.real.itemsize, state_bytes = <size_t>(p.c.B * p.c.H) * size
        cdef int layer, direction, j, status = FASTRNN_OK
        cdef ptrdiff_t row = self.directions * p.c.H
        cdef void *memory = cnp.PyArray_DATA(scratch)
        cdef char *between = NULL
        if self.layers > 1 or y is NULL:
            between = <char *>malloc(2 * self.hidden_bytes)
            if between is NULL:
                raise MemoryError
        for layer in range(self.layers):
            p = self.problems[layer]
            if layer == self.layers - 1 and y is not NULL:
                top = fastrnn_view_t(y, self.y_stride_t, self.y_stride_b)
            else:
                top = fastrnn_view_t(between + (layer % 2) * self.hidden_bytes, p.c.B * row, row)
            for direction in range(self.directions):
                j = layer * self.directions + direction
                a.packed = cnp.PyArray_DATA(<cnp.ndarray>self.packed[j])
                a.x, a.y = x, top
                a.y.data = <char *>top.data + direction * p.c.H * size
                if direction == 1:
                    a.x.data = <char *>x.data + (p.c.T - 1) * x.stride_t * <ptrdiff_t>size
                    a.y.data = <char *>a.y.data + (p.c.T - 1) * top.stride_t * <ptrdiff_t>size
                    a.x.stride_t, a.y.stride_t = -x.stride_t, -top.stride_t
                a.h0 = fastrnn_const_view_t(_part(h0, j * state_bytes), 0, p.c.H)
                a.c0 = fastrnn_const_view_t(_part(c0, j * state_bytes), 0, p.c.H)
                a.h_n = fastrnn_view_t(_part(h_n, j * state_bytes), 0, p.c.H)
                a.c_n = fastrnn_view_t(_part(c_n, j * state_bytes), 0, p.c.H)
                a.c = fastrnn_view_t(NULL, 0, 0)
                a.reserve, a.scratch = NULL, memory
                with nogil:
                    status = fastrnn_forward(&p.c, &a)
                if status != FASTRNN_OK:
                    break
            x = fastrnn_const_view_t(top.data, top.stride_t, top.stride_b)
        free(between)
        if status != FASTRNN_OK:
            _raise(status)
        return 0
