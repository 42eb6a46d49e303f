"""Inference of a frozen stack on the commonest arguments, without Python in between: part of _core.pyx."""


cdef class FrozenStack(Stack):
    """Layers and directions with packed weights (in the order of torch's parameters)."""

    cdef tuple packed

    def __cinit__(self, str cell, dtype, int backend, int64_t I, int64_t H, int layers, int directions,
                  bint batch_first, tuple packed, empty, scratch):
        cdef Problem of_layer
        cdef int j
        if len(packed) != layers * directions or directions not in (1, 2):
            raise ValueError("packed: expected weights for each layer and direction")
        for j in range(layers * directions):
            of_layer = Problem(cell, dtype, backend, 1, 0, 0, I if j < directions else directions * H, H)
            _memory(packed[j], "packed", of_layer.plan.sizes.packed_forward, False)
        self.problem, self.type_number, self.has_c = of_layer.c, of_layer.type_number, of_layer.has_c
        self.layers, self.directions, self.batch_first, self.I = layers, directions, batch_first, I
        self.packed, self.dtype, self.empty, self.scratch = packed, np.dtype(dtype), empty, scratch

    def run(self, x, state, int threads, int team):
        """(y, state) as the layer returns them; None if the general path has to look at the arguments."""
        cdef fastrnn_problem_t problem = self.problem
        cdef int rank = self._rank_of(x)
        if rank == 0:
            return None
        self._set_sizes(<cnp.ndarray>x, rank, &problem)
        states = self._states_of(state, rank, problem.B)
        if states is None:
            return None
        h0, c0 = states
        h_n = self._new_state(rank, problem.B)
        c_n = self._new_state(rank, problem.B) if self.has_c else None
        y = self._run(<cnp.ndarray>x, rank, problem.T, problem.B, h0, c0, h_n, c_n, threads, team)
        return y, ((h_n, c_n) if self.has_c else h_n)

    cdef cnp.ndarray _run(self, cnp.ndarray x, int rank, int64_t T, int64_t B, h0, c0, h_n, c_n, int threads,
                          int team):
        cdef fastrnn_problem_t problem = self.problem
        cdef fastrnn_plan_t plan
        cdef fastrnn_arrays_t arrays
        cdef fastrnn_view_t source, target
        cdef cnp.ndarray y = x, scratch
        cdef int layer, direction, j
        cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(x)
        problem.T, problem.B, problem.threads = T, B, threads
        problem.team = team
        no_arrays(&arrays)
        for layer in range(self.layers):
            problem.I = self.I if layer == 0 else self.directions * problem.H
            make_plan(&problem, &plan)
            scratch = self.scratch(plan.sizes.scratch_forward)
            source = self._sequence(x, rank)
            y = self._new_sequence(rank, &problem, self.directions * problem.H)
            for direction in range(self.directions):
                j = layer * self.directions + direction
                target = self._sequence(y, rank)
                target.data = <char *>target.data + direction * problem.H * item
                arrays.x = fastrnn_const_view_t(source.data, source.stride_t, source.stride_b)
                if direction == 1:  # the same loop over views that run backwards
                    arrays.x.data = <const char *>arrays.x.data + (T - 1) * source.stride_t * item
                    arrays.x.stride_t = -source.stride_t
                    target.data = <char *>target.data + (T - 1) * target.stride_t * item
                    target.stride_t = -target.stride_t
                arrays.packed = cnp.PyArray_DATA(<cnp.ndarray>self.packed[j])
                arrays.y = target
                arrays.final[0], arrays.final[1] = self._state(h_n, rank, j), self._state(c_n, rank, j)
                arrays.initial[0], arrays.initial[1] = self._start(h0, rank, j), self._start(c0, rank, j)
                arrays.scratch = cnp.PyArray_DATA(scratch)
                run(&plan, FASTRNN_FORWARD, &arrays)
            x = y
        return y
