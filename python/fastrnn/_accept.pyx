# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""What callers with NumPy arrays pass to a plan: looked at in a microsecond here, converted or refused in Python."""

import numpy as np

from . import _check, memory
from ._plan import new_bytes
from .config import backend_index, get_num_threads, cut_index
from .schedule import Batch
from .weights import checked_parameters

cimport numpy as cnp
from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from ._core cimport Pace, Problem, usable
from ._plan cimport Arrays, Plan, Tape

cnp.import_array()

cdef enum:
    LINE_BYTES = 64
    EACH = 4  # parameters of a layer and direction; an absent one is None
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


cdef class Network:
    """A stack of layers: its sizes, its pace, and the plans of its last shapes.

    kind: the layout of sequences with a batch axis, see `Arrays`. reverse: of each direction, whether it runs from the
    last step to the first.
    """

    cdef readonly str cell
    cdef readonly cnp.dtype dtype
    cdef readonly int layers, directions, states
    cdef readonly int64_t I, H
    cdef int type_number, gates
    cdef readonly Arrays batched
    cdef Arrays unbatched
    cdef tuple reverse
    cdef dict likes, plans
    cdef Pace pace

    def __init__(self, str cell, dtype, int64_t I, int64_t H, int layers, tuple reverse, str kind):
        cdef Problem like
        self.cell, self.I, self.H, self.layers = cell, I, H, layers
        self.reverse, self.directions = reverse, len(reverse)
        self.batched, self.unbatched = Arrays(kind, dtype), Arrays("unbatched", dtype)
        self.dtype, self.type_number = self.batched.dtype, self.batched.type_number
        self.likes, self.plans, self.pace = {}, {}, Pace(layers)
        like = self._like((backend_index(), 1, 0))
        self.states, self.gates = like.state_count, like.gates

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
            plan = Plan(self._like(key[2:]), self.cell, self.I, self.layers, batches)
            if len(self.plans) >= PLANS_MAX:
                self.plans.clear()
            self.plans[key] = plan
        return plan

    # ---- layers ----

    cdef tuple _order(self, object owner, cnp.ndarray x, object lengths, object resets):
        """A plan, and the sequences of a dense batch that ignore their initial state, or None."""
        cdef Arrays arrays = self.batched if cnp.PyArray_NDIM(x) == 3 else self.unbatched
        cdef int64_t T = cnp.PyArray_DIM(x, arrays.t_axis)
        cdef int64_t B = cnp.PyArray_DIM(x, arrays.b_axis) if arrays.b_axis >= 0 else 1
        if lengths is None and resets is None:
            return self.dense_plan(T, B), None
        return self.plan_of_batches(owner._checked_batches(T, B, lengths, resets, arrays.b_axis < 0))

    def plan_of_batches(self, tuple batches):
        """A plan for a batch of each direction, and the sequences that ignore their initial state, or None."""
        first = batches[0]
        starting = first.starting if self.directions == 1 else None
        if first.dense or starting is not None:
            return self.dense_plan(first.T, first.B), starting
        chosen = backend_index(), get_num_threads(), cut_index()
        return Plan(self._like(chosen), self.cell, self.I, self.layers, batches), None

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
        """EACH of each layer and direction, as the core reads them."""
        cdef list found = []
        cdef int64_t rows = self.gates * self.H, columns
        cdef int j, k
        cdef dict parameters
        shapes = owner._shapes
        given = owner.parameters
        if type(given) is not dict or len(<dict>given) != len(shapes):
            given = checked_parameters(given, shapes, self.dtype)
        parameters = given
        j = 0
        for name in shapes:
            k = j % EACH
            array = parameters.get(name)
            columns = self.H
            if k == 0 and j < EACH * self.directions:
                columns = self.I
            elif k == 0:
                columns = self.directions * self.H
            if not is_parameter(array, self.type_number, 1 if k > 1 else 2, rows, columns):
                parameters = checked_parameters(given, shapes, self.dtype)
                array = parameters[name]
            found.append(array)
            j += 1
            if not owner.bias and k == 1:
                found.append(None)
                found.append(None)
                j += 2
        return found

    def infer(self, owner, list packed, x, state, lengths, resets):
        """(y, state), as a layer returns them; packed: the frozen weights, or None."""
        cdef cnp.ndarray given = self._input(owner, x)
        cdef Plan plan
        plan, starting = self._order(owner, given, lengths, resets)
        cdef Arrays arrays = self.batched if cnp.PyArray_NDIM(given) == 3 else self.unbatched
        initial = self._states(owner, "state", state, arrays, plan.B)
        parameters = self._parameters(owner) if packed is None else None
        y, final, _ = plan.forward(
            arrays, given, initial, parameters, packed, None, None, None, None, False, True, starting
        )  # fmt: skip
        return y, final if self.states > 1 else final[0]

    def train(self, owner, packed, x, state, lengths, resets, checkpoint):
        """(y, state, tape); packed: forward's and backward's frozen weights, or None."""
        cdef cnp.ndarray given = self._input(owner, x)
        cdef Plan plan
        plan, starting = self._order(owner, given, lengths, resets)
        cdef Arrays arrays = self.batched if cnp.PyArray_NDIM(given) == 3 else self.unbatched
        initial = self._states(owner, "state", state, arrays, plan.B)
        parameters = owner._frozen_parameters() if packed is not None else self._parameters(owner)
        of_forward, of_backward = (None, None) if packed is None else packed
        masks = owner._masks(plan.T, plan.B) if self.layers > 1 and owner.dropout else None
        n = None if checkpoint is None else owner._chosen_checkpoint(plan, checkpoint)
        y, final, tape = plan.forward(
            arrays, given, initial, parameters, of_forward, of_backward, masks, n, owner, True, True, starting
        )
        cnp.PyArray_CLEARFLAGS(<cnp.ndarray>y, cnp.NPY_ARRAY_WRITEABLE)
        return y, final if self.states > 1 else final[0], tape

    def backward(self, owner, tape, dy, dstate, truncation):
        """(dx, dstate, gradients by name)."""
        cdef Tape made
        cdef Plan plan
        cdef int j
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
        dx, d_initial = plan.backward(made, dy, d_final, into, window)
        gradients = {}
        j = 0
        for name in owner._shapes:
            if into[j] is None:  # no biases
                j += 2
            gradients[name] = into[j]
            j += 1
        return dx, d_initial if self.states > 1 else d_initial[0], gradients

    cdef bint _is_like(self, object array, cnp.ndarray other):
        cdef int axis, rank = cnp.PyArray_NDIM(other)
        if not usable(array, self.type_number, rank):
            return False
        for axis in range(rank):
            if cnp.PyArray_DIM(<cnp.ndarray>array, axis) != cnp.PyArray_DIM(other, axis):
                return False
        return True

    cpdef list new_gradients(self, bint has_bias):
        """Arrays like the parameters: small ones side by side in one block, each on a line."""
        cdef cnp.npy_intp dims[2]
        cdef cnp.npy_intp item = self.dtype.itemsize, size
        cdef size_t total = LINE_BYTES, at
        cdef int j, k, count = EACH * self.layers * self.directions
        cdef list found = []
        cdef cnp.ndarray block, array
        cdef char *next_line
        dims[0] = self.gates * self.H
        for j in range(count):
            size = dims[0] * self._columns(j) * item
            total += 0 if size >= <cnp.npy_intp>POOLED_BYTES_MIN else (size + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
        block = new_bytes(total)
        at = (<size_t>cnp.PyArray_DATA(block) + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
        next_line = <char *>at
        for j in range(count):
            k = j % EACH
            if k > 1 and not has_bias:
                found.append(None)
                continue
            dims[1] = self._columns(j)
            size = dims[0] * dims[1] * item
            if size < <cnp.npy_intp>POOLED_BYTES_MIN:
                array = cnp.PyArray_SimpleNewFromData(1 if k > 1 else 2, dims, self.type_number, next_line)
                cnp.set_array_base(array, block)
                next_line += (size + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
            else:
                array = self.batched.new_array(1 if k > 1 else 2, dims)
            found.append(array)
        return found

    cdef int64_t _columns(self, int j):
        """Of parameter j."""
        cdef int k = j % EACH
        if k > 1:
            return 1
        if k == 1:
            return self.H
        return self.I if j < EACH * self.directions else self.directions * self.H

    # ---- functions ----

    def accepts(self, x, tuple weights, tuple initial):
        """Whether the core can read the arguments of a single-layer function, including x (T, B, I), unconverted."""
        cdef int64_t rows = self.gates * self.H
        cdef int j
        if not usable(x, self.type_number, 3) or cnp.PyArray_DIM(<cnp.ndarray>x, 2) != self.I:
            return False
        for j in range(EACH):
            if (j < 2 or weights[j] is not None) and not is_parameter(
                weights[j], self.type_number, 1 if j > 1 else 2, rows, self.I if j == 0 else self.H
            ):
                return False
        for state in initial:
            if state is not None and not (
                usable(state, self.type_number, 2)
                and has_shape(state, 2, cnp.PyArray_DIM(<cnp.ndarray>x, 1), self.H, 0)
            ):
                return False
        return True
