"""Training of a stack of one direction on dense sequences, without Python in between: part of _core.pyx."""

cdef enum:
    LINE_BYTES = 64


cdef size_t _lines(size_t size):
    return (size + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES


cdef char *_on_a_line(void *p):
    return <char *>_lines(<size_t>p)


cdef char *_reserve_in(cnp.ndarray kept):
    """Where the reserve begins; the weights follow it."""
    return _on_a_line(cnp.PyArray_DATA(kept))


cdef class DenseTape:
    """What a `stack` keeps in forward for backward: x, the initial states, each layer's y and the memory beside it.

    That memory is, each on a line, the reserve and the weights for backward: packed, or copies of w_ih and w_hh (`packs`
    false). It is only read.
    """

    cdef readonly object owner, x, h0, c0
    cdef readonly DenseStack stack
    cdef readonly bint packs
    cdef list ys, kept
    cdef fastrnn_problem_t problem
    cdef int rank

    def __init__(self):
        raise TypeError("DenseTape: expected to be made by a forward call")

    def __reduce__(self):
        raise TypeError("tape: it belongs to its process and cannot be pickled")

    @property
    def shape(self):
        """(T, B)"""
        return self.problem.T, self.problem.B

    @property
    def masks(self):
        """Of dropout, which there is none of."""
        return [None] * len(self.ys)

    @property
    def settings(self):
        """(backend, threads, team), see `Problem`."""
        return self.problem.backend, self.problem.threads, self.problem.team

    @property
    def unbatched(self):
        """Whether x has no batch axis."""
        return self.rank == 2

    def layer(self, int j, int64_t width):
        """(y, reserve, packed, w_ih, w_hh) of a layer that reads `width` numbers; of the last three, what there is."""
        cdef fastrnn_problem_t problem = self.problem
        cdef fastrnn_plan_t plan
        cdef int64_t rows = fastrnn_cell_table(problem.cell).gates * problem.H
        problem.I = width
        make_plan(&problem, &plan)
        cdef const fastrnn_sizes_t *sizes = &plan.sizes
        memory, y = self.kept[j], self.ys[j]
        cdef size_t start = <size_t>(_reserve_in(<cnp.ndarray>memory) - cnp.PyArray_BYTES(<cnp.ndarray>memory))
        reserve = memory[start : start + sizes.reserve] if sizes.reserve else None
        weights = memory[start + _lines(sizes.reserve) :]
        if self.packs:
            return y, reserve, weights[: sizes.packed_backward], None, None
        first = _lines(rows * width * y.itemsize)
        w_ih = weights[: rows * width * y.itemsize].view(y.dtype).reshape(rows, width)
        w_hh = weights[first : first + rows * problem.H * y.itemsize].view(y.dtype).reshape(rows, problem.H)
        return y, reserve, None, w_ih, w_hh


cdef class DenseStack(Stack):
    """Layers of one direction; `names`: of w_ih, w_hh and, with biases, b_ih and b_hh, of each layer in turn."""

    cdef readonly str cell
    cdef tuple names
    cdef int each

    def __cinit__(self, str cell, dtype, int64_t I, int64_t H, int layers, bint batch_first, tuple names, empty,
                  scratch):
        cdef Problem of_layer = Problem(cell, dtype, fastrnn_best_backend(), 1, 0, 0, I, H)
        if layers < 1 or len(names) not in (2 * layers, 4 * layers):
            raise ValueError("names: expected two or four for each layer")
        self.problem, self.type_number, self.has_c = of_layer.c, of_layer.type_number, of_layer.has_c
        self.layers, self.directions, self.batch_first, self.I = layers, 1, batch_first, I
        self.cell = cell
        self.names, self.each = names, len(names) // layers
        self.dtype, self.empty, self.scratch = np.dtype(dtype), empty, scratch

    @property
    def is_batch_first(self):
        return self.batch_first

    cdef int64_t _width(self, int layer):
        return self.I if layer == 0 else self.problem.H

    cdef list _parameters_of(self, object parameters):
        """Those that the core reads as they are; None if the general path has to look at them."""
        cdef list found = []
        cdef int j
        cdef int64_t rows = fastrnn_cell_table(self.problem.cell).gates * self.problem.H
        if type(parameters) is not dict or len(<dict>parameters) != len(self.names):
            return None
        for j in range(len(self.names)):
            array = (<dict>parameters).get(self.names[j])
            if not _usable(array, self.type_number, 1 if j % self.each > 1 else 2):
                return None
            if cnp.PyArray_DIM(<cnp.ndarray>array, 0) != rows or not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array):
                return None
            if j % self.each < 2 and cnp.PyArray_DIM(<cnp.ndarray>array, 1) != (
                self._width(j // self.each) if j % self.each == 0 else self.problem.H
            ):
                return None
            found.append(array)
        return found

    cdef void _set_parameters(self, list parameters, int layer, fastrnn_arrays_t *a):
        cdef int j
        for j in range(self.each):
            a.parameters[j] = _data(parameters[layer * self.each + j])

    def forward(self, owner, parameters, x, state, int backend, int threads, int team):
        """(y, state, tape) as the layer returns them; None if the general path has to look at the arguments."""
        cdef fastrnn_problem_t problem = self.problem
        cdef int rank = self._rank_of(x)
        if rank == 0:
            return None
        self._set_sizes(<cnp.ndarray>x, rank, &problem)
        states = self._states_of(state, rank, problem.B)
        weights = self._parameters_of(parameters)
        if states is None or weights is None:
            return None
        problem.backend, problem.threads = backend, threads
        problem.team = team
        cdef DenseTape tape = DenseTape.__new__(DenseTape)
        tape.stack, tape.owner, tape.x, tape.problem, tape.rank = self, owner, x, problem, rank
        tape.h0, tape.c0 = states
        cdef fastrnn_plan_t plan
        make_plan(&problem, &plan)
        tape.packs = fastrnn_packing_pays(&plan)
        tape.ys, tape.kept = [], []
        h_n = self._new_state(rank, problem.B)
        c_n = self._new_state(rank, problem.B) if self.has_c else None
        for layer in range(self.layers):
            x = self._forward_layer(tape, layer, x, weights, h_n, c_n)
        cnp.PyArray_CLEARFLAGS(<cnp.ndarray>x, cnp.NPY_ARRAY_WRITEABLE)
        return x, ((h_n, c_n) if self.has_c else h_n), tape

    cdef cnp.ndarray _forward_layer(self, DenseTape tape, int layer, cnp.ndarray x, list parameters, h_n, c_n):
        cdef fastrnn_problem_t problem = tape.problem
        cdef fastrnn_plan_t plan
        cdef fastrnn_arrays_t a
        cdef int status = FASTRNN_OK
        problem.I = self._width(layer)
        make_plan(&problem, &plan)
        no_arrays(&a)
        self._set_parameters(parameters, layer, &a)
        cdef cnp.ndarray y = self._new_sequence(tape.rank, &problem, problem.H), kept, packed
        cdef size_t beside = plan.sizes.packed_backward if tape.packs else self._copies_bytes(&problem)
        kept = self._bytes(LINE_BYTES + _lines(plan.sizes.reserve) + beside)
        cdef char *weights = _reserve_in(kept) + _lines(plan.sizes.reserve)
        if tape.packs:
            packed = self._bytes(plan.sizes.packed_forward)
            a.packed = cnp.PyArray_DATA(packed)
        else:
            self._set_copies(&problem, weights, a.copies)
        cdef cnp.ndarray scratch = self.scratch(plan.sizes.scratch_forward)
        a.x = self._read_only(x, tape.rank)
        a.initial[0] = self._start(tape.h0, tape.rank, layer)
        a.initial[1] = self._start(tape.c0, tape.rank, layer)
        a.y = self._sequence(y, tape.rank)
        a.final[0], a.final[1] = self._state(h_n, tape.rank, layer), self._state(c_n, tape.rank, layer)
        a.reserve = _reserve_in(kept) if plan.sizes.reserve else NULL
        a.scratch = cnp.PyArray_DATA(scratch)
        cdef fastrnn_arrays_t for_backward
        if tape.packs:
            no_arrays(&for_backward)
            self._set_parameters(parameters, layer, &for_backward)
            for_backward.packed = weights
        with nogil:
            if a.packed is not NULL:
                status = fastrnn_run(&plan, FASTRNN_PACK_FORWARD, &a)
                status = status if status != FASTRNN_OK else fastrnn_run(&plan, FASTRNN_PACK_BACKWARD, &for_backward)
            status = status if status != FASTRNN_OK else fastrnn_run(&plan, FASTRNN_FORWARD, &a)
        if status != FASTRNN_OK:
            _raise(status)
        tape.ys.append(y)
        tape.kept.append(kept)
        return y

    cdef size_t _copies_bytes(self, const fastrnn_problem_t *problem):
        cdef size_t row = fastrnn_cell_table(problem.cell).gates * problem.H * (<cnp.dtype>self.dtype).itemsize
        return _lines(row * problem.I) + _lines(row * problem.H)

    cdef void _set_copies(self, const fastrnn_problem_t *problem, char *to, void **copies):
        """The addresses of copies of w_ih and w_hh, each on a line."""
        cdef size_t row = fastrnn_cell_table(problem.cell).gates * problem.H * (<cnp.dtype>self.dtype).itemsize
        copies[FASTRNN_W_IH], copies[FASTRNN_W_HH] = to, to + _lines(row * problem.I)

    def backward(self, DenseTape tape not None, dy, dstate):
        """(dx, dstate, gradients by name); None if the general path has to look at the arguments."""
        cdef fastrnn_problem_t problem = tape.problem
        cdef int rank = tape.rank, layer
        states = self._states_of(dstate, rank, problem.B)
        if states is None or (dy is not None and not self._is_like(dy, tape.ys[self.layers - 1])):
            return None
        dh0 = self._new_state(rank, problem.B)
        dc0 = self._new_state(rank, problem.B) if self.has_c else None
        cdef dict gradients = {}
        arrays = self._new_gradients()
        for layer in range(self.layers - 1, -1, -1):
            dy = self._backward_layer(tape, layer, dy, states, dh0, dc0, arrays)
        for j in range(len(self.names)):
            gradients[self.names[j]] = arrays[j]
        return dy, ((dh0, dc0) if self.has_c else dh0), gradients

    cdef cnp.ndarray _backward_layer(self, DenseTape tape, int layer, object dy, tuple d_final, dh0, dc0, list into):
        cdef fastrnn_problem_t problem = tape.problem
        cdef fastrnn_plan_t plan
        cdef fastrnn_arrays_t a
        cdef int j
        problem.I = self._width(layer)
        make_plan(&problem, &plan)
        no_arrays(&a)
        cdef cnp.ndarray dx = self._new_sequence(tape.rank, &problem, problem.I), kept = tape.kept[layer]
        cdef char *weights = _reserve_in(kept) + _lines(plan.sizes.reserve)
        if tape.packs:
            a.packed = weights
        else:
            self._set_copies(&problem, weights, <void **>a.parameters)
        a.x = self._read_only(tape.x if layer == 0 else tape.ys[layer - 1], tape.rank)
        a.initial[0] = self._start(tape.h0, tape.rank, layer)
        a.initial[1] = self._start(tape.c0, tape.rank, layer)
        a.y = self._sequence(tape.ys[layer], tape.rank)
        a.reserve = _reserve_in(kept) if plan.sizes.reserve else NULL
        if dy is not None:
            a.dy = self._read_only(dy, tape.rank)
        a.d_final[0] = self._start(d_final[0], tape.rank, layer)
        a.d_final[1] = self._start(d_final[1], tape.rank, layer)
        a.dx = self._sequence(dx, tape.rank)
        a.d_initial[0], a.d_initial[1] = self._state(dh0, tape.rank, layer), self._state(dc0, tape.rank, layer)
        for j in range(self.each):
            a.gradients[j] = _data(into[layer * self.each + j])
        a.accumulation = FASTRNN_OVERWRITE
        cdef cnp.ndarray scratch = self.scratch(plan.sizes.scratch_backward)
        a.scratch = cnp.PyArray_DATA(scratch)
        run(&plan, FASTRNN_BACKWARD, &a)
        return dx

    cdef list _new_gradients(self):
        """Arrays like the parameters: small ones side by side in one block, each on a line."""
        cdef cnp.npy_intp dims[2]
        cdef int64_t rows = fastrnn_cell_table(self.problem.cell).gates * self.problem.H
        cdef size_t item = (<cnp.dtype>self.dtype).itemsize, size, total = LINE_BYTES
        cdef int j, rank
        cdef list found = []
        cdef cnp.ndarray block, array
        for j in range(len(self.names)):
            size = rows * self._columns(j) * item
            total += _lines(size) if size < POOLED_BYTES_MIN else 0
        block = self._bytes(total)
        cdef char *at = _on_a_line(cnp.PyArray_DATA(block))
        for j in range(len(self.names)):
            rank, size = (1 if j % self.each > 1 else 2), rows * self._columns(j) * item
            dims[0], dims[1] = rows, self._columns(j)
            if size < POOLED_BYTES_MIN:
                array = cnp.PyArray_SimpleNewFromData(rank, dims, self.type_number, at)
                cnp.set_array_base(array, block)
                at += _lines(size)
            else:
                array = self._new(rank, dims)
            found.append(array)
        return found

    cdef int64_t _columns(self, int j):
        if j % self.each > 1:
            return 1
        return self._width(j // self.each) if j % self.each == 0 else self.problem.H

    cdef cnp.ndarray _bytes(self, size_t size):
        cdef cnp.npy_intp dims[1]
        dims[0] = size
        if size < POOLED_BYTES_MIN:
            return cnp.PyArray_SimpleNew(1, dims, cnp.NPY_UINT8)
        return self.empty((size,), np.dtype(np.uint8))
