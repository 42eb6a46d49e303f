# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""What callers with NumPy arrays pass to a plan: looked at in a microsecond here, converted or refused in Python."""

import numpy as np

from . import _check, memory
from ._plan import new_bytes
from .config import backend_index, get_num_threads, cut_index
from .given import input_gradient
from .schedule import Batch
from .weights import checked_parameters

cimport numpy as cnp
from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from ._core cimport Pace, Problem, columns_of, usable
from ._program cimport FASTRNN_ONE_COLUMN, fastrnn_cell_table_t
from ._kept cimport Held, KeptWeights
from ._plan cimport Arrays, Plan, Tape

cnp.import_array()

cdef enum:
    LINE_BYTES = 64
    PLANS_MAX = 16  # that a network keeps

cdef size_t POOLED_BYTES_MIN = memory.POOLED_BYTES_MIN


cdef bint has_shape(object array, int rank, int64_t first, int64_t second, int64_t third) noexcept:
    """The first `rank` of three sizes."""
    cdef cnp.ndarray a = <cnp.ndarray>array
    if cnp.PyArray_DIM(a, 0) != first or (rank > 1 and cnp.PyArray_DIM(a, 1) != second):
        return False
    return rank < 3 or cnp.PyArray_DIM(a, 2) == third


cdef bint is_parameter(object array, int type_number, int rank, int64_t rows, int64_t columns) noexcept:
    if not usable(array, type_number, rank) or not has_shape(array, rank, rows, columns, 0):
        return False
    return cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array)


cdef enum Resets:
    RESETS_NONE  # no reset at all
    RESETS_OF_FIRST_STEPS
    RESETS_OTHER  # of later steps, or an array that Python must convert or refuse


cdef Resets kind_of_resets(object resets, Arrays arrays, int64_t T, int64_t B) noexcept:
    """Looks at booleans that are laid out as the sequences."""
    cdef cnp.ndarray a
    cdef const char *row
    cdef cnp.npy_intp stride_b = 0
    cdef int64_t t, b
    cdef Resets found = RESETS_NONE
    if type(resets) is not cnp.ndarray:
        return RESETS_OTHER
    a = <cnp.ndarray>resets
    if cnp.PyArray_TYPE(a) != cnp.NPY_BOOL or cnp.PyArray_NDIM(a) != (1 if arrays.b_axis < 0 else 2):
        return RESETS_OTHER
    if cnp.PyArray_DIM(a, arrays.t_axis) != T or (arrays.b_axis >= 0 and cnp.PyArray_DIM(a, arrays.b_axis) != B):
        return RESETS_OTHER
    if arrays.b_axis >= 0:
        stride_b = cnp.PyArray_STRIDE(a, arrays.b_axis)
    for t in range(T):
        row = <const char *>cnp.PyArray_DATA(a) + t * cnp.PyArray_STRIDE(a, arrays.t_axis)
        for b in range(B):
            if row[b * stride_b]:
                if t > 0:
                    return RESETS_OTHER
                found = RESETS_OF_FIRST_STEPS
    return found


cdef cnp.ndarray first_resets(cnp.ndarray resets, Arrays arrays, int64_t B):
    """Those of the first step, a copy (B,)."""
    cdef cnp.npy_intp size = B, stride = cnp.PyArray_STRIDE(resets, arrays.b_axis) if arrays.b_axis >= 0 else 0
    cdef cnp.ndarray found = cnp.PyArray_SimpleNew(1, &size, cnp.NPY_BOOL)
    cdef char *to = <char *>cnp.PyArray_DATA(found)
    cdef int64_t b
    for b in range(B):
        to[b] = (<const char *>cnp.PyArray_DATA(resets))[b * stride]
    return found


cdef class Network:
    """A stack of layers: its sizes, its pace, and the plans of its last shapes.

    cell: its name in the registry, or its program. kind: the layout of sequences with a batch axis, see `Arrays`. reverse: of each direction, whether it runs from the
    last step to the first.
    """

    cdef readonly object cell, row
    cdef readonly cnp.dtype dtype
    cdef readonly int layers, directions, states
    cdef readonly int64_t I, H
    cdef int type_number, each
    cdef const fastrnn_cell_table_t *table
    cdef Problem like
    cdef readonly Arrays batched
    cdef Arrays unbatched
    cdef tuple reverse
    cdef dict likes, plans
    cdef KeptWeights kept
    cdef Pace pace

    def __init__(self, cell, dtype, int64_t I, int64_t H, int layers, tuple reverse, str kind):
        self.cell, self.I, self.H, self.layers = cell, I, H, layers
        self.reverse, self.directions = reverse, len(reverse)
        self.batched, self.unbatched = Arrays(kind, dtype), Arrays("unbatched", dtype)
        self.dtype, self.type_number = self.batched.dtype, self.batched.type_number
        self.likes, self.plans, self.kept, self.pace = {}, {}, KeptWeights(), Pace(layers)
        self.like = self._like((backend_index(), 1, 0))
        self.table, self.row = self.like.table, self.like.row
        self.states, self.each = self.table.state_count, self.table.parameter_count

    def _like(self, tuple chosen):
        """A problem of this backend and so many threads, as plans are made from."""
        like = self.likes.get(chosen)
        if like is None:
            like = self.likes[chosen] = Problem(self.cell, self.dtype, chosen[0], chosen[1], 0, 0, 0, self.H, None,
                                                chosen[2], None, None, self.pace)
        return like

    cpdef Plan dense_plan(self, int64_t T, int64_t B):
        """All steps of all sequences."""
        cdef tuple key = (T, B, backend_index(), get_num_threads(), cut_index())
        plan = self.plans.get(key)
        if plan is None:
            batches = tuple([Batch(T, B, None, None, one) for one in self.reverse])
            plan = Plan(self._like(key[2:]), self.I, self.layers, batches)
            if len(self.plans) >= PLANS_MAX:
                self.plans.clear()
            self.plans[key] = plan
        return plan

    @property
    def keeps_weights(self):
        """Whether packed weights are kept for calls with the same parameters."""
        return self.kept.held[0] is not None

    # ---- layers ----

    cpdef tuple order(self, object owner, cnp.ndarray x, object lengths, object resets):
        """A plan, and the sequences of a dense batch that ignore their initial state, or None."""
        cdef Resets kind = RESETS_OTHER
        cdef Arrays arrays = self.batched if cnp.PyArray_NDIM(x) == 3 else self.unbatched
        cdef int64_t T = cnp.PyArray_DIM(x, arrays.t_axis)
        cdef int64_t B = cnp.PyArray_DIM(x, arrays.b_axis) if arrays.b_axis >= 0 else 1
        if lengths is None and resets is None:
            return self.dense_plan(T, B), None
        if lengths is None:
            kind = kind_of_resets(resets, arrays, T, B)
        if kind == RESETS_NONE:
            return self.dense_plan(T, B), None
        # The reverse direction ends at the first step, whose reset does not change it.
        if kind == RESETS_OF_FIRST_STEPS and (T == 1 or (self.directions == 1 and not self.reverse[0])):
            return self.dense_plan(T, B), first_resets(resets, arrays, B)
        return self.plan_of_batches(owner._checked_batches(T, B, lengths, resets, arrays.b_axis < 0, self.reverse))

    def plan_of_batches(self, tuple batches):
        """A plan for a batch of each direction, and the sequences that ignore their initial state, or None."""
        first = batches[0]
        starting = first.starting if self.directions == 1 else None
        if first.dense or starting is not None:
            return self.dense_plan(first.T, first.B), starting
        chosen = backend_index(), get_num_threads(), cut_index()
        return Plan(self._like(chosen), self.I, self.layers, batches), None

    cdef cnp.ndarray _input(self, object owner, object x):
        cdef int rank = cnp.PyArray_NDIM(<cnp.ndarray>x) if type(x) is cnp.ndarray else 0
        if (rank == 2 or rank == 3) and usable(x, self.type_number, rank):
            if cnp.PyArray_DIM(<cnp.ndarray>x, rank - 1) == self.I:
                return x
        return owner._checked_input(x)

    cdef tuple _states(self, object owner, str name, object state, Arrays arrays, int64_t B):
        """One for each state, None for an absent one."""
        cdef int j, rank = 2 if arrays.b_axis < 0 else 3
        cdef int64_t count = self.layers * self.directions
        cdef tuple members
        if state is None:
            return (None,) * self.states
        if self.states == 1:
            members = (state,)
        elif type(state) is tuple and len(<tuple>state) == self.states:
            members = state
        else:
            return owner._checked_states(name, state, B, rank == 2)
        for j in range(self.states):
            if members[j] is None and self.states > 1:
                continue
            if not usable(members[j], self.type_number, rank) or not (
                has_shape(members[j], 2, count, self.H, 0) if rank == 2 else has_shape(members[j], 3, count, B, self.H)
            ):
                return owner._checked_states(name, state, B, rank == 2)
        return members

    cdef list _parameters(self, object owner):
        """Those of the table for each layer and direction, as the core reads them; None for an absent parameter."""
        cdef list found = []
        cdef int j, k
        cdef bint has_optional = owner.bias
        cdef dict parameters
        shapes = owner._shapes
        given = owner.parameters
        if type(given) is not dict or len(<dict>given) != len(shapes):
            given = checked_parameters(given, shapes, self.dtype)
        parameters = given
        names = iter(shapes)
        for j in range(self.each * self.layers * self.directions):
            k = j % self.each
            if not has_optional and not self.table.parameters[k].required:
                found.append(None)
                continue
            name = next(names)
            array = parameters.get(name)
            if not is_parameter(array, self.type_number, self._rank(k), self._rows(k), self._columns(j)):
                parameters = checked_parameters(given, shapes, self.dtype)
                array = parameters[name]
            found.append(array)
        return found

    cdef object _given(self, object owner, object inputs, Plan plan, Arrays arrays):
        """The inputs of each step and the options of a call; None for a cell without any."""
        if inputs is None and self.table.input_count == 0 and self.table.option_count == 0:
            return None
        return owner._given(inputs, plan.T, plan.B, arrays.b_axis < 0)

    def infer(self, owner, list packed, x, state, lengths, resets, inputs):
        """(y, state), as a layer returns them; packed: the frozen weights, or None; inputs: of each step, or None."""
        cdef cnp.ndarray given = self._input(owner, x)
        cdef Plan plan
        plan, starting = self.order(owner, given, lengths, resets)
        cdef Arrays arrays = self.batched if cnp.PyArray_NDIM(given) == 3 else self.unbatched
        initial = self._states(owner, "state", state, arrays, plan.B)
        cdef Held held = None
        parameters = None
        if packed is None:
            parameters = self._parameters(owner)
            held = self.kept.of_call(plan, parameters, False, None)
            packed = None if held is None else held.forward
        y, final, _ = plan.forward(
            arrays, given, initial, parameters, packed, None, None, None, None, False, True, starting,
            self._given(owner, inputs, plan, arrays),
        )  # fmt: skip
        return y, final if self.states > 1 else final[0]

    def train(self, owner, packed, x, state, lengths, resets, checkpoint, inputs):
        """(y, state, tape); packed: forward's and backward's frozen weights, or None; inputs: of each step, or None."""
        cdef cnp.ndarray given = self._input(owner, x)
        cdef Plan plan
        plan, starting = self.order(owner, given, lengths, resets)
        cdef Arrays arrays = self.batched if cnp.PyArray_NDIM(given) == 3 else self.unbatched
        initial = self._states(owner, "state", state, arrays, plan.B)
        parameters = owner._frozen_parameters() if packed is not None else self._parameters(owner)
        cdef Held held = None
        of_forward = of_backward = None
        if packed is not None:
            of_forward, of_backward = packed
        elif checkpoint is None:
            held = self.kept.of_call(plan, parameters, True, None)
        if held is not None:
            of_forward, of_backward = held.forward, held.backward
        steps = self._given(owner, inputs, plan, arrays)
        masks = owner._masks(plan.T, plan.B) if self.layers > 1 and owner.dropout else None
        n = None if checkpoint is None else owner._chosen_checkpoint(plan, checkpoint)
        y, final, tape = plan.forward(
            arrays, given, initial, parameters, of_forward, of_backward, masks, n, owner, True, True, starting, steps
        )
        cnp.PyArray_CLEARFLAGS(<cnp.ndarray>y, cnp.NPY_ARRAY_WRITEABLE)
        return y, final if self.states > 1 else final[0], tape

    def backward(self, owner, tape, dy, dstate, truncation):
        """(dx, dstate, gradients by name, gradients of the inputs of each step by name)."""
        cdef Tape made
        cdef Plan plan
        if type(tape) is not Tape:
            raise TypeError(f"tape: expected the tape of a forward call, got {type(tape).__name__}")
        made = tape
        if made.owner is not owner:
            raise ValueError("tape: expected a tape of this layer, got one of another")
        plan = made.plan
        if dy is not None and not self._is_like(dy, made.y):
            dy = owner._checked_dy(dy, made.y.shape)
        d_final = self._states(owner, "dstate", dstate, made.arrays, plan.B)
        window = None if truncation is None else _check.truncation("truncation", truncation)
        into = self.new_gradients(owner.bias)
        wanted = self.row.input_gradients if made.given is not None else ()
        d_inputs = made.given.new_gradients(made, wanted) if True in wanted else None
        dx, d_initial = plan.backward(made, dy, d_final, into, window, True, True, True, d_inputs)
        gradients = {}
        for name, gradient in zip(owner._shapes, [one for one in into if one is not None], strict=True):
            gradients[name] = gradient
        of_inputs = {} if d_inputs is None else self._named_inputs(d_inputs)
        return dx, d_initial if self.states > 1 else d_initial[0], gradients, of_inputs

    def _named_inputs(self, list d_inputs):
        """For each input with a gradient: an array, or in a stack a list with one for each layer and direction."""
        cdef int k, count = self.table.input_count
        found = {}
        for k, name in enumerate(self.row.inputs):
            if self.row.input_gradients[k]:
                members = [input_gradient(self.row, name, one) for one in d_inputs[k::count]]
                found[name] = members if len(members) > 1 else members[0]
        return found

    cdef bint _is_like(self, object array, cnp.ndarray other):
        cdef int axis, rank = cnp.PyArray_NDIM(other)
        if not usable(array, self.type_number, rank):
            return False
        for axis in range(rank):
            if cnp.PyArray_DIM(<cnp.ndarray>array, axis) != cnp.PyArray_DIM(other, axis):
                return False
        return True

    cpdef list new_gradients(self, bint has_optional):
        """Arrays like the parameters: small ones side by side in one block, each on a line."""
        cdef cnp.npy_intp dims[2]
        cdef cnp.npy_intp item = self.dtype.itemsize, size
        cdef size_t total = LINE_BYTES, at
        cdef int j, k, count = self.each * self.layers * self.directions
        cdef list found = []
        cdef cnp.ndarray block, array
        cdef char *next_line
        for j in range(count):
            size = self._rows(j % self.each) * self._columns(j) * item
            total += 0 if size >= <cnp.npy_intp>POOLED_BYTES_MIN else (size + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
        block = new_bytes(total)
        at = (<size_t>cnp.PyArray_DATA(block) + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
        next_line = <char *>at
        for j in range(count):
            k = j % self.each
            if not has_optional and not self.table.parameters[k].required:
                found.append(None)
                continue
            dims[0], dims[1] = self._rows(k), self._columns(j)
            size = dims[0] * dims[1] * item
            if size < <cnp.npy_intp>POOLED_BYTES_MIN:
                array = cnp.PyArray_SimpleNewFromData(self._rank(k), dims, self.type_number, next_line)
                cnp.set_array_base(array, block)
                next_line += (size + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
            else:
                array = self.batched.new_array(self._rank(k), dims)
            found.append(array)
        return found

    cdef int _rank(self, int k) noexcept:
        """Of parameter k of the table."""
        return 1 if self.table.parameters[k].columns == FASTRNN_ONE_COLUMN else 2

    cdef int64_t _rows(self, int k) noexcept:
        return self.table.parameters[k].rows_per_unit * self.H

    cdef int64_t _columns(self, int j) noexcept:
        """Of parameter j of the stack."""
        cdef int64_t I = self.I if j < self.each * self.directions else self.directions * self.H
        return columns_of(&self.table.parameters[j % self.each], I, &self.like.c)

    # ---- functions ----

    def packed_of(self, Plan plan not None, list weights not None, bint training):
        """The packed weights of a function's parameters, for forward and backward, or None and None.

        What is kept for them lives as long as w_hh.
        """
        cdef Held held = self.kept.of_call(plan, weights, training, weights[1])
        return (None, None) if held is None else (held.forward, held.backward if training else None)

    def accepts(self, x, tuple weights, tuple initial):
        """Whether the core can read the arguments of a single-layer function, including x (T, B, I), unconverted."""
        cdef int j
        if not usable(x, self.type_number, 3) or cnp.PyArray_DIM(<cnp.ndarray>x, 2) != self.I:
            return False
        for j in range(self.each):
            if (self.table.parameters[j].required or weights[j] is not None) and not is_parameter(
                weights[j], self.type_number, self._rank(j), self._rows(j), self._columns(j)
            ):
                return False
        for state in initial:
            if state is not None and not (
                usable(state, self.type_number, 2)
                and has_shape(state, 2, cnp.PyArray_DIM(<cnp.ndarray>x, 1), self.H, 0)
            ):
                return False
        return True
