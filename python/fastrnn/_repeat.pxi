"""Short inference calls of fastrnn.torch that repeat one made before: part of _core.pyx."""


def same_bytes(arrays, copies, int threads):
    """Whether every array, or tensor of torch, equals its copy in every bit, read by at most `threads` threads.

    All are contiguous; copies are arrays.
    """
    cdef cnp.ndarray copy
    for array, other in zip(arrays, copies, strict=True):
        if not isinstance(other, cnp.ndarray):
            raise TypeError("copies: expected NumPy arrays")
        copy = <cnp.ndarray>other
        if array.nbytes != other.nbytes:
            return False
        if not cnp.PyArray_IS_C_CONTIGUOUS(copy):
            raise ValueError("copies: expected contiguous arrays")
        if isinstance(array, cnp.ndarray):
            if not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array):
                raise ValueError("arrays: expected contiguous arrays")
            if not _equals(<size_t>cnp.PyArray_DATA(<cnp.ndarray>array), copy, threads):
                return False
        elif not _equals(_address_of(array), copy, threads):
            return False
    return True


cdef size_t SHORT_BYTES = 32 << 10  # compared within a microsecond, for which the GIL is not given up


cdef bint _equals(size_t address, cnp.ndarray copy, int threads):
    """Whether memory of the copy's size equals it; false for no memory."""
    cdef size_t size = cnp.PyArray_NBYTES(copy)
    cdef const void *other = cnp.PyArray_DATA(copy)
    cdef int same
    if address == 0:
        return size == 0
    if size < SHORT_BYTES:
        return fastrnn_same_bytes(<const void *>address, other, size, threads)
    with nogil:
        same = fastrnn_same_bytes(<const void *>address, other, size, threads)
    return same


cdef void *_part(void *whole, size_t offset) noexcept:
    if whole is NULL:
        return NULL
    return <char *>whole + offset


cdef class Repeat:
    """A dense inference call of a stack, on tensors of torch, that is like one made before.

    A short call takes less time than the Python around it. So everything that such a call needs is kept: problems
    (one for each layer), packed weights, and what they were packed from. A call compares (what tensors are, the bytes
    of the parameters, the thread's state) and runs the kernels, or returns None: then something is different.

    configuration: attributes of the module, by name, which must be as they were. names: of its parameters; weights:
    those tensors, None for an absent one; aliases: contiguous tensors on their memory; copies: arrays of the contents of
    the present ones when they were packed. x_shape: of the input; outlines: of the output and of a state, see
    `_tensor_like`; no outline of the output for a cell. strides (t, b): of the input and the output, all else being
    contiguous. thread: functions whose results must be false, one of which is given the device, and torch's module of
    forward-mode differentiation; settings: a function, and its result.
    """

    cdef tuple attributes, values, problems, packed, names, weights, aliases, copies, thread
    cdef object tensor_type, dtype, empty_like, x_shape, state_shape, y_outline, state_outline, settings, setting
    cdef object autocast, dual
    cdef cnp.dtype real
    cdef ptrdiff_t stride_t, stride_b, y_stride_t, y_stride_b
    cdef int layers, directions
    cdef bint has_c
    cdef size_t scratch_bytes, hidden_bytes, state_bytes

    def __init__(
        self, configuration, problems, packed, parameters, x_shape, outlines, strides, torch_names, thread, settings
    ):
        cdef Problem p
        self.attributes, self.values = tuple(configuration), tuple(configuration.values())
        self.problems, self.packed = tuple(problems), tuple(packed)
        self.names, self.weights, self.aliases, self.copies = parameters
        self.x_shape = x_shape
        self.y_outline, self.state_outline = outlines
        self.state_shape = self.state_outline.shape
        self.stride_t, self.stride_b, self.y_stride_t, self.y_stride_b = strides
        self.tensor_type, self.dtype, self.empty_like = torch_names
        (self.thread, self.autocast, self.dual), self.settings = thread, settings
        self.setting = settings()
        self.layers = len(self.problems)
        self.directions = len(self.packed) // self.layers
        self.scratch_bytes, self.hidden_bytes = 0, 0
        for p in self.problems:
            if p.c.schedule is not NULL:
                raise ValueError("problems: expected dense ones")
            self.scratch_bytes = max(self.scratch_bytes, p.plan.sizes.scratch_forward)
        p = self.problems[0]
        self._check_sizes(p.c.T, p.c.B, p.c.H)
        self.has_c, self.real = p.has_c, self.copies[0].dtype
        self.hidden_bytes = <size_t>(p.c.T * p.c.B * p.c.H * self.directions) * self.real.itemsize
        self.state_bytes = <size_t>(p.c.B * p.c.H * self.directions * self.layers) * self.real.itemsize
        for j, array in enumerate(self.packed):
            p = self.problems[j // self.directions]
            _memory(array, "packed", p.plan.sizes.packed_forward, False)

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
        if self.y_outline is not None and math.prod(self.y_outline.shape) != T * B * width:
            raise ValueError("shapes: expected those of the problems")
        return 0

    cdef void *_address(self, object tensor, object shape) except? NULL:
        """Of a tensor's numbers if it is plain, contiguous and of this shape; else null."""
        if type(tensor) is not self.tensor_type or tensor.dtype is not self.dtype or not tensor.is_cpu:
            return NULL
        if tensor.shape != shape or tensor.is_neg() or not tensor.is_contiguous():
            return NULL
        cdef size_t address = _address_of(tensor)
        return NULL if address % <size_t>self.real.itemsize else <void *>address

    cdef bint _is_current(self, dict attributes) except -1:
        cdef Py_ssize_t j
        cdef Py_ssize_t copy = 0
        cdef int threads = self.setting[1]
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
            if weight is None:
                continue
            if not weight.is_set_to(self.aliases[j]):
                return False
            if not _equals(_address_of(weight), <cnp.ndarray>self.copies[copy], threads):
                return False
            copy += 1
        return True

    def __call__(self, dict attributes, x, hx):
        """What the module with these attributes returns for x and hx; None if something is different."""
        cdef fastrnn_const_view_t x_view
        cdef char *h0 = NULL
        cdef char *c0 = NULL
        for function in self.thread:
            if function():
                return None
        if self.autocast("cpu") or self.dual._current_level >= 0:
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
        cdef cnp.ndarray scratch = scratch_of(self.scratch_bytes)
        cdef void *y_data = NULL
        cdef void *h_data = NULL
        cdef void *c_data = NULL
        y = c_n = None
        if self.y_outline is not None:
            y = _tensor_like(self.empty_like, self.y_outline, self.hidden_bytes, &y_data)
        h_n = _tensor_like(self.empty_like, self.state_outline, self.state_bytes, &h_data)
        if self.has_c:
            c_n = _tensor_like(self.empty_like, self.state_outline, self.state_bytes, &c_data)
        self._run(x_view, h0, c0, y_data, <char *>h_data, <char *>c_data, scratch)
        state = (h_n, c_n) if self.has_c else h_n
        return state if self.y_outline is None else (y, state)

    cdef int _run(
        self, fastrnn_const_view_t x, char *h0, char *c0, void *y, char *h_n, char *c_n, cnp.ndarray scratch
    ) except -1:
        """Up the stack. Outputs between layers, and of a cell, are (T, B, D*H) in memory of their own."""
        cdef Problem p = self.problems[0]
        cdef fastrnn_arrays_t a
        cdef fastrnn_view_t top
        cdef size_t size = self.real.itemsize, state_bytes = <size_t>(p.c.B * p.c.H) * size
        cdef int layer, direction, j, status = FASTRNN_OK
        cdef ptrdiff_t row = self.directions * p.c.H
        cdef char *between = NULL
        if self.layers > 1 or y is NULL:
            between = <char *>malloc(2 * self.hidden_bytes)
            if between is NULL:
                raise MemoryError
        no_arrays(&a)
        a.scratch = cnp.PyArray_DATA(scratch)
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
                a.initial[0] = fastrnn_const_view_t(_part(h0, j * state_bytes), 0, p.c.H)
                a.initial[1] = fastrnn_const_view_t(_part(c0, j * state_bytes), 0, p.c.H)
                a.final[0] = fastrnn_view_t(_part(h_n, j * state_bytes), 0, p.c.H)
                a.final[1] = fastrnn_view_t(_part(c_n, j * state_bytes), 0, p.c.H)
                with nogil:
                    status = fastrnn_run(&p.plan, FASTRNN_FORWARD, &a)
                if status != FASTRNN_OK:
                    break
            x = fastrnn_const_view_t(top.data, top.stride_t, top.stride_b)
        free(between)
        if status != FASTRNN_OK:
            raise_status(status)
        return 0
