# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""A call of a stack of layers: the loop up, the loop down, and the one place that fills arrays for the core.

Sequences are (T, B, n) here and states (layers*D, B, H), however the caller lays them out (`Arrays`). Number
j = layer*D + direction counts in the order of torch's parameters.
"""

import numpy as np

from . import checkpoint, memory, recompute
from ._kernel import BackwardArrays, States, WeightGradients, Weights, pass_empty_through
from .truncation import Stage, Stages, stages_of

from ._core cimport (
    FASTRNN_ADD,
    FASTRNN_BACKWARD,
    FASTRNN_FORWARD,
    FASTRNN_OK,
    FASTRNN_OVERWRITE,
    FASTRNN_PACK_BACKWARD,
    FASTRNN_PACK_FORWARD,
    FASTRNN_W_HH,
    FASTRNN_W_IH,
    fastrnn_problem_t,
    make_plan,
    no_arrays,
    packing_pays,
    raise_status,
    run_pass,
    scratch_of,
)

cnp.import_array()

# All steps of a dense batch at once.
DENSE = Stages([Stage([None])])
cdef tuple ALL_DENSE = (None, [DENSE], [DENSE, DENSE])  # by directions

# Smaller arrays come from NumPy: the C library keeps their memory by itself, in less time.
cdef size_t POOLED_BYTES_MIN = memory.POOLED_BYTES_MIN
cdef enum:
    LINE_BYTES = 64
    EACH = 4  # parameters of a layer and direction; an absent one is None

# Of each kind of layout: the axes of t and b in a sequence, those of j and b in a state; -1: there is none.
cdef dict AXES = {
    "dense": (0, 1, 0, 1),
    "batch_first": (1, 0, 0, 1),
    "unbatched": (0, -1, 0, -1),
    "step": (-1, 0, -1, 0),
    "unbatched_step": (-1, -1, -1, -1),
    "packed": (0, -1, 0, 1),
    "one": (0, 1, -1, 0),
}


cdef size_t lines(size_t size) noexcept:
    """Rounded up to whole cache lines."""
    return (size + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES


cdef char *on_a_line(object memory) noexcept:
    """Where the first cache line of a byte array begins."""
    return <char *>lines(<size_t>cnp.PyArray_DATA(<cnp.ndarray>memory))


cdef void *data_of(object array) noexcept:
    """Null for None."""
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef fastrnn_view_t state_of(StateView states, int j) noexcept:
    """The view (B, H) of layer and direction j."""
    cdef fastrnn_view_t view = fastrnn_view_t(NULL, 0, states.stride_b)
    if states.data is not NULL:
        view.data = states.data + j * states.step
    return view


cdef fastrnn_const_view_t read_only(fastrnn_view_t view) noexcept:
    return fastrnn_const_view_t(view.data, view.stride_t, view.stride_b)


def new_bytes(size_t size):
    """A byte array, out of the pool if it is large."""
    cdef cnp.npy_intp dims[1]
    if size >= POOLED_BYTES_MIN:
        return memory.empty((size,), memory.BYTES)
    dims[0] = size
    return cnp.PyArray_SimpleNew(1, dims, cnp.NPY_UINT8)


cdef class Arrays:
    """How the arrays of a call are laid out, and new ones that are laid out like them.

    kind: sequences are dense (T, B, n), batch_first (B, T, n), unbatched (T, n), step (B, n), unbatched_step (n) or
    packed (rows, n). States are (layers*D, B, H), without the axes that an unbatched sequence or a step lacks. Of kind
    one, sequences are dense and states (B, H).
    """

    def __cinit__(self, str kind, dtype, *_):
        self.kind, self.dtype = kind, np.dtype(dtype)
        self.type_number, self.item = self.dtype.num, self.dtype.itemsize
        self.t_axis, self.b_axis, self.j_axis, self.state_b_axis = AXES[kind]

    cdef void *address(self, object a) except? NULL:
        """Of a contiguous array's numbers; null for None."""
        return NULL if a is None else cnp.PyArray_DATA(<cnp.ndarray>a)

    cdef fastrnn_view_t sequence(self, object a) except *:
        """The view (T, B, n) of a sequence; a null one for None."""
        cdef fastrnn_view_t view = fastrnn_view_t(NULL, 0, 0)
        if a is not None:
            view.data = cnp.PyArray_DATA(<cnp.ndarray>a)
            if self.t_axis >= 0:
                view.stride_t = cnp.PyArray_STRIDE(<cnp.ndarray>a, self.t_axis) // self.item
            if self.b_axis >= 0:
                view.stride_b = cnp.PyArray_STRIDE(<cnp.ndarray>a, self.b_axis) // self.item
        return view

    cdef StateView states_view(self, object a) except *:
        """The view (layers*D, B, H) of states; a null one for None."""
        cdef StateView view = StateView(NULL, 0, 0)
        if a is not None:
            view.data = <char *>cnp.PyArray_DATA(<cnp.ndarray>a)
            if self.j_axis >= 0:
                view.step = cnp.PyArray_STRIDE(<cnp.ndarray>a, self.j_axis)
            if self.state_b_axis >= 0:
                view.stride_b = cnp.PyArray_STRIDE(<cnp.ndarray>a, self.state_b_axis) // self.item
        return view

    cdef cnp.ndarray new_array(self, int rank, cnp.npy_intp *dims):
        cdef int axis
        cdef cnp.npy_intp size = self.item
        for axis in range(rank):
            size *= dims[axis]
        if size < <cnp.npy_intp>POOLED_BYTES_MIN:
            return cnp.PyArray_SimpleNew(rank, dims, self.type_number)
        return memory.empty(tuple([dims[axis] for axis in range(rank)]), self.dtype)

    cdef object new_bytes(self, size_t size):
        """Memory that a tape keeps."""
        return new_bytes(size)

    cdef object new_sequence(self, int64_t T, int64_t B, int64_t n, bint zero, fastrnn_view_t *view):
        """An output and its view."""
        cdef cnp.ndarray a = self.new_array_sequence(T, B, n, zero)
        view[0] = Arrays.sequence(self, a)
        return a

    cdef object new_states(self, int64_t count, int64_t B, int64_t H, StateView *view):
        """Final states and their view."""
        cdef cnp.ndarray a = self.new_array_states(count, B, H)
        view[0] = Arrays.states_view(self, a)
        return a

    cdef cnp.ndarray new_array_sequence(self, int64_t T, int64_t B, int64_t n, bint zero):
        """A sequence in memory of NumPy's or the pool's: gradients, and what lies between layers."""
        cdef cnp.npy_intp dims[3]
        cdef int rank = 1 + (self.t_axis >= 0) + (self.b_axis >= 0)
        cdef cnp.ndarray a
        if self.t_axis >= 0:
            dims[self.t_axis] = T
        if self.b_axis >= 0:
            dims[self.b_axis] = B
        dims[rank - 1] = n
        a = self.new_array(rank, dims)
        if zero:
            a.fill(0)
        return a

    cdef cnp.ndarray new_array_states(self, int64_t count, int64_t B, int64_t H):
        cdef cnp.npy_intp dims[3]
        cdef int rank = 1 + (self.j_axis >= 0) + (self.state_b_axis >= 0)
        if self.j_axis >= 0:
            dims[self.j_axis] = count
        if self.state_b_axis >= 0:
            dims[self.state_b_axis] = B
        dims[rank - 1] = H
        return self.new_array(rank, dims)

    def copy_of_states(self, a):
        """A copy that is laid out alike."""
        return a.copy()

    def inside(self, a):
        """A view (T, B, n) of a sequence."""
        if self.kind == "batch_first":
            return a.swapaxes(0, 1)
        for axis, present in enumerate((self.t_axis, self.b_axis)):
            a = a if present >= 0 else np.expand_dims(a, axis)
        return a

    def states_inside(self, a):
        """A view (layers*D, B, H) of states; None for None."""
        if a is None:
            return None
        for axis, present in enumerate((self.j_axis, self.state_b_axis)):
            a = a if present >= 0 else np.expand_dims(a, axis)
        return a


cdef class Plan:
    """A stack of layers over a batch: the passes of the core, their order and their memory.

    like: a problem of the cell, dtype, backend, threads, pace and hidden size; I: the input size; batches: one for each
    direction. A plan does not change and may be used any number of times, by several threads.
    """

    def __init__(self, Problem like not None, str cell, int64_t I, int layers, tuple batches):
        cdef fastrnn_problem_t problem = like.c
        cdef int layer, direction
        first = batches[0]
        self.like, self.cell, self.layers, self.directions, self.batches = like, cell, layers, len(batches), batches
        self.I, self.H, self.states = I, problem.H, like.state_count
        self.T, self.B = first.T, first.B
        self.rows, self.width = first.grid
        self.is_dense = first.dense
        for direction in range(self.directions):
            self.flipped[direction] = batches[direction].flipped
        problem.T, problem.B = self.rows, self.width
        for layer in range(min(layers, 2)):
            problem.I = self.input_size(layer)
            problem.pace = NULL if like.pace is None else like.pace.of_layer(layer)
            make_plan(&problem, &self.whole[layer])
        self.stage_problems = {}
        self.parts = None
        if not self.is_dense:
            self.pads, self.has_empty = first.has_padding, first.has_empty
            self.parts = [
                [self._problems(layer, batch.forward_parts, self.B, None) for batch in batches]
                for layer in range(min(layers, 2))
            ]
        self.packs = self.parts is not None or packing_pays(&self.whole[0])

    @property
    def dtype(self):
        return self.like.dtype

    @property
    def pace(self):
        """What earlier calls have shown about threads; may be None."""
        return self.like.pace

    @property
    def reserve_bytes(self):
        """What the first layer saves in one direction."""
        return self.whole[0].sizes.reserve

    def check_parameters(self, list parameters):
        """ValueError unless all have the sizes that the core reads."""
        cdef int64_t rows = self.like.gates * self.H, columns
        for j, one in enumerate(parameters):
            k = j % EACH
            columns = 1 if k > 1 else self.H if k == 1 else self.input_size(j // EACH // self.directions)
            if one is not None and one.nbytes != rows * columns * self.like.dtype.itemsize:
                raise ValueError("parameters: expected those of the plan")

    def packed_bytes(self, int layer):
        """Of a layer's weights in one direction, for forward."""
        return self.whole[layer > 0].sizes.packed_forward

    cdef int64_t input_size(self, int layer):
        return self.I if layer == 0 else self.directions * self.H

    def _problems(self, int layer, parts, states, d_states):
        """Problems of the core for these parts of a schedule; None for a dense part."""
        cdef fastrnn_problem_t c = self.like.c
        cdef int64_t I = self.input_size(layer)
        return [
            None
            if part is None
            else Problem(self.cell, self.like.dtype, c.backend, c.threads, self.rows, self.width, I, self.H, part,
                         c.cut, states, d_states, self.like.pace, layer)
            for part in parts
        ]  # fmt: skip

    # ---- up ----

    cpdef tuple forward(
        self, Arrays arrays, object x, tuple initial, list parameters, list packed, list packed_backward, list masks,
        object checkpoint_steps, object owner, bint training, bint keeps_weights=True, object starting=None,
    ):
        """Returns (y, final states, tape); the tape is None unless training.

        parameters: EACH arrays for each layer and direction, contiguous, None for an absent parameter. packed,
        packed_backward: the packed weights of each layer and direction, or None. masks: dropout's mask of each layer's
        input. keeps_weights: the tape keeps copies of the current weights; otherwise the caller gives backward the
        weights. starting: in a dense batch, whether each sequence (B,) ignores its initial state.
        """
        cdef int k
        cdef Tape tape = None
        cdef StateView start_views[STATES]
        if training:
            tape = new_tape(self, arrays, x, initial, owner)
            tape.masks, tape.packed_backward = masks, packed_backward
            tape.has_parameters = None if parameters is None else [one is not None for one in parameters]
            tape.checkpoints = None if checkpoint_steps is None else []
            tape.starting = starting
        if starting is not None:
            initial = self.restarted(arrays, initial, starting)
        for k in range(self.states):
            start_views[k] = arrays.states_view(initial[k])
        y, final = self.up(arrays, x, arrays.sequence(x), initial, start_views, parameters, packed, masks, tape,
                           checkpoint_steps, keeps_weights)
        return y, final, tape

    cdef tuple restarted(self, Arrays arrays, tuple initial, object starting):
        """Copies of the initial states, with the start values for some sequences."""
        cdef int k
        cdef list found = []
        for k in range(self.states):
            state = initial[k]
            if state is not None:
                state = arrays.copy_of_states(state)
                arrays.states_inside(state)[:, starting] = self.like.starts[k]
            found.append(state)
        return tuple(found)

    cdef tuple up(
        self, Arrays arrays, object x, fastrnn_view_t x_view, tuple initial, StateView *start_views, list parameters,
        list packed, list masks, Tape tape, object checkpoint_steps, bint keeps_weights,
    ):
        """All layers and directions: (y, final states). start_views: of the states before the first step."""
        cdef int layer, direction, k, count = self.layers * self.directions
        cdef list final = []
        cdef StateView final_views[STATES]
        cdef fastrnn_view_t y_view
        cdef object y = x
        for k in range(self.states):
            final.append(arrays.new_states(count, self.B, self.H, &final_views[k]))
        if self.has_empty:
            starts = self.like.starts
            pass_empty_through(self.batches[0], self._inside(arrays, initial), self._inside(arrays, final), starts)
        for layer in range(self.layers):
            if masks is not None and masks[layer] is not None:
                x = masked(arrays, x, masks[layer])
                x_view = arrays.sequence(x)
            y = arrays.new_sequence(self.rows, self.width, self.directions * self.H, self.pads, &y_view)
            for direction in range(self.directions):
                if checkpoint_steps is not None:
                    self._forward_checkpointed(tape, layer, direction, x, y, initial, final, parameters, packed,
                                               checkpoint_steps)
                    continue
                self._forward_one(arrays, layer, direction, x_view, y_view, start_views, final_views, parameters,
                                  packed, tape, keeps_weights)
            if tape is not None:
                tape.inputs.append(x)
                tape.outputs.append(y)
            x, x_view = y, y_view
        if tape is not None:
            tape.y = y
        return y, tuple(final)

    cdef int _forward_one(
        self, Arrays arrays, int layer, int direction, fastrnn_view_t x, fastrnn_view_t y, StateView *initial,
        StateView *final, list parameters, list packed, Tape tape, bint keeps_weights,
    ) except -1:
        cdef int j = layer * self.directions + direction, k, status = FASTRNN_OK
        cdef const fastrnn_plan_t *plan = &self.whole[layer > 0]
        cdef fastrnn_arrays_t a, of_backward
        cdef cnp.ndarray buffer = None, scratch
        cdef bint packs = packed is None and self.packs, packs_backward = False
        cdef char *area = NULL
        no_arrays(&a)
        a.y = self.half(y, direction, arrays.item)
        self.flip(&x, direction, arrays.item)
        self.flip(&a.y, direction, arrays.item)
        a.x = read_only(x)
        for k in range(self.states):
            a.initial[k] = read_only(state_of(initial[k], j))
            a.final[k] = state_of(final[k], j)
        if packed is not None:
            a.packed = data_of(packed[j])
        if parameters is not None:
            for k in range(EACH):
                a.parameters[k] = arrays.address(parameters[j * EACH + k])
        if packs:
            buffer = new_bytes(plan.sizes.packed_forward)
            a.packed = data_of(buffer)
        if tape is not None:
            keeps_weights = keeps_weights and tape.packed_backward is None
            packs_backward = keeps_weights and self.packs
            area = self._keep(tape, layer, keeps_weights)
            a.reserve = area if plan.sizes.reserve else NULL
            if keeps_weights:
                area += lines(plan.sizes.reserve)
            if keeps_weights and not self.packs:
                self.copies(layer, area, arrays.item, a.copies)
        if packs_backward:
            no_arrays(&of_backward)
            for k in range(EACH):
                of_backward.parameters[k] = a.parameters[k]
            of_backward.packed = area
        if self.parts is None:
            scratch = scratch_of(plan.sizes.scratch_forward)
            a.scratch = data_of(scratch)
        with nogil:
            if packs:
                status = run_pass(plan, FASTRNN_PACK_FORWARD, &a)
            if packs_backward and status == FASTRNN_OK:
                status = run_pass(plan, FASTRNN_PACK_BACKWARD, &of_backward)
            if a.scratch is not NULL and status == FASTRNN_OK:
                status = run_pass(plan, FASTRNN_FORWARD, &a)
        if status != FASTRNN_OK:
            raise_status(status)
        if self.parts is not None:
            self._run_parts(self.parts[layer > 0][direction], FASTRNN_FORWARD, &a)
        return 0

    cdef int _run_parts(self, list problems, int kind, fastrnn_arrays_t *a) except -1:
        cdef Problem problem
        cdef cnp.ndarray scratch
        cdef int status
        for problem in problems:
            scratch = scratch_of(
                problem.plan.sizes.scratch_forward if kind == FASTRNN_FORWARD else problem.plan.sizes.scratch_backward
            )
            a.scratch = data_of(scratch)
            with nogil:
                status = run_pass(&problem.plan, kind, a)
            if status != FASTRNN_OK:
                raise_status(status)
        return 0

    cdef char *_keep(self, Tape tape, int layer, bint keeps_weights) except? NULL:
        """Memory of the next layer and direction in a tape: the reserve and, both on a line, the weights."""
        cdef size_t reserve = self.whole[layer > 0].sizes.reserve, beside
        if not keeps_weights:
            kept = tape.arrays.new_bytes(reserve) if reserve else None
            tape.kept.append(kept)
            return <char *>tape.arrays.address(kept)
        beside = self.whole[layer > 0].sizes.packed_backward
        if not self.packs:
            beside = self.copies(layer, NULL, tape.arrays.item, NULL)
        kept = tape.arrays.new_bytes(LINE_BYTES + lines(reserve) + beside)
        tape.has_weights = True
        tape.kept.append(kept)
        return on_a_line(kept)

    cdef size_t copies(self, int layer, char *area, cnp.npy_intp item, void **copies) noexcept:
        """The bytes of copies of w_ih and w_hh, each on a line, and their addresses unless `copies` is null."""
        cdef size_t row = self.like.gates * self.H * item
        cdef size_t of_input = lines(row * self.input_size(layer))
        if copies is not NULL:
            copies[FASTRNN_W_IH], copies[FASTRNN_W_HH] = area, area + of_input
        return of_input + lines(row * self.H)

    cdef fastrnn_view_t half(self, fastrnn_view_t y, int direction, cnp.npy_intp item) noexcept:
        """The part of a layer's output, or its gradient, that belongs to a direction."""
        if y.data is not NULL:
            y.data = <char *>y.data + direction * self.H * item
        return y

    cdef void flip(self, fastrnn_view_t *view, int direction, cnp.npy_intp item) noexcept:
        """A dense reverse direction is the same loop over views that run backwards."""
        if view.data is not NULL and self.flipped[direction] and self.rows > 0:
            view.data = <char *>view.data + (self.rows - 1) * view.stride_t * item
            view.stride_t = -view.stride_t

    def _forward_checkpointed(self, Tape tape, int layer, int direction, x, y, initial, final, parameters, packed, n):
        cdef int j = layer * self.directions + direction
        if self.like.output != 0 or self.states > 2:
            raise ValueError(f"checkpoint: expected None for {self.cell}: it has states besides its output and c")
        weights = Weights(*parameters[j * EACH : (j + 1) * EACH])
        both = None if packed is None else packed[j], None if packed is None else tape.packed_backward[j]
        tape.checkpoints.append(
            checkpoint.run_forward_checkpointed(
                self.cell, tape.arrays.inside(x), weights, *both, self._half_inside(tape.arrays, y, direction),
                States(*self._one(tape.arrays, initial, j)), States(*self._one(tape.arrays, final, j)),
                self.batches[direction], n,
            )
        )

    def _half_inside(self, Arrays arrays, y, int direction):
        whole = arrays.inside(y)
        return whole[:, :, direction * self.H : (direction + 1) * self.H]

    def _inside(self, Arrays arrays, states):
        return [arrays.states_inside(one) for one in states]

    def _one(self, Arrays arrays, states, int j):
        """Arrays (B, H) of layer and direction j."""
        return [None if one is None else arrays.states_inside(one)[j] for one in states]

    # ---- down ----

    cpdef tuple backward(
        self, Tape tape, object dy, tuple d_final, list into, object truncation=None, object stages=None,
        bint wants_x=True, bint wants_states=True, bint overwrite=True,
    ):
        """(dx, gradients of the initial states), None where not wanted; `into` takes those of the parameters.

        into: as the parameters; None: not wanted. stages: of each direction, if others than the truncation's.
        """
        cdef Arrays arrays = tape.arrays
        cdef int layer, j, number, D = self.directions, count = self.layers * D
        cdef int lowest = self._lowest(into, wants_x or wants_states)
        cdef list d_initial = [None] * self.states, cells = [None] * (lowest * D), between = [None] * 4
        cdef StateView views[3][STATES]  # of initial states, and of gradients of final and initial ones
        cdef bint is_dense
        if stages is None:
            stages = self._stages(truncation)
        is_dense = stages[0] is DENSE or stages[0].dense
        dx = arrays.new_array_sequence(self.rows, self.width, self.I, not is_dense) if wants_x else None
        if wants_states:
            d_initial = [arrays.new_array_states(count, self.B, self.H) for j in range(self.states)]
        initial = tape.initial if tape.starting is None else self.restarted(arrays, tape.initial, tape.starting)
        for j in range(self.states):
            views[0][j] = arrays.states_view(initial[j])
            views[1][j] = arrays.states_view(d_final[j])
            views[2][j] = arrays.states_view(d_initial[j])
        for j in range(lowest * D, count):
            cells.append(begin_down(self, tape, j, stages[j % D], d_final, d_initial, views, into, overwrite))
        # A window of one direction is one of the whole stack, so each stage goes all the way down. With two directions,
        # each layer and direction has windows of its own.
        for number in range(len(stages[0].stages) if D == 1 else 1):
            above = dy
            for layer in range(self.layers - 1, lowest - 1, -1):
                below = self._down_layer(cells, layer, lowest, number if D == 1 else -1, above, dx, between, is_dense)
                above = None if below is None else masked_in_place(arrays, below, tape.masks, layer)
        if wants_states and self.has_empty:
            pass_empty_through(self.batches[0], self._inside(arrays, d_final), self._inside(arrays, d_initial))
        if wants_states and tape.starting is not None:
            for gradient in d_initial:
                arrays.states_inside(gradient)[:, tape.starting] = 0
        return dx, tuple(d_initial)

    cdef object _down_layer(
        self, list cells, int layer, int lowest, int stage, object dy, object dx, list between, bint is_dense
    ):
        """The gradient of the layer's input, None where nobody wants it; stage -1: all of them."""
        cdef int direction, slot, number
        cdef int64_t n
        cdef _Down cell
        cdef Arrays arrays
        total = None
        for direction in range(self.directions):
            cell = cells[layer * self.directions + direction]
            arrays = cell.tape.arrays
            part = None
            if layer == 0 and direction == 0:
                part = dx
            elif layer > lowest or (layer == 0 and dx is not None):
                slot = 2 * direction + layer % 2
                if between[slot] is None or direction == 1:
                    n = self.input_size(layer)
                    between[slot] = arrays.new_array_sequence(self.rows, self.width, n, not is_dense)
                part = between[slot]
            if stage >= 0:
                cell.run(stage, dy, part)
            else:
                for number in range(len(cell.stages.stages)):
                    cell.run(number, dy, part)
            if part is not None:
                total = part if total is None else np.add(total, part, out=total)
        return total

    cdef int _lowest(self, list into, bint wants_inputs):
        """The lowest layer to run."""
        cdef int j
        if not wants_inputs:
            for j in range(len(into)):
                if into[j] is not None:
                    return j // EACH // self.directions
        return 0

    cdef object _stages(self, object truncation):
        if truncation is None and self.is_dense:
            return ALL_DENSE[self.directions]
        return [stages_of(batch, truncation) for batch in self.batches]

    cdef object _problems_of(self, object stages, int j):
        """Problems of the core for the parts of each stage."""
        cdef int layer = j // self.directions
        if stages is DENSE:
            return ((None,),)
        rows = stages.rows(self.B) if stages.regions else None
        key = layer > 0, j % self.directions
        kept = self.stage_problems.get(key)
        if kept is None or kept[0] is not stages:  # those of the last stages are kept
            problems = [self._problems(layer, stage.parts, self.B, rows) for stage in stages.stages]
            kept = self.stage_problems[key] = stages, problems
        return kept[1]


cdef class _Down:
    """Backward of one layer in one direction, stage by stage.

    Overwrites the gradients of the initial states and, unless they are added to, those of the parameters.
    """

    cdef Plan plan
    cdef Tape tape
    cdef int j, layer, direction
    cdef object stages, problems, d_initial
    cdef list into, incoming, outgoing  # gradients of states, arrays (rows, H) or None
    cdef cnp.ndarray packed  # for a tape that has no weights packed
    cdef fastrnn_const_view_t incoming_views[STATES]
    cdef fastrnn_view_t outgoing_views[STATES]
    cdef fastrnn_const_view_t initial_views[STATES]
    cdef bint overwrite

    cdef int pack(self) except -1:
        """The weights that backward was given."""
        cdef const fastrnn_plan_t *plan = &self.plan.whole[self.layer > 0]
        cdef fastrnn_arrays_t a
        cdef int k, status
        no_arrays(&a)
        self.packed = new_bytes(plan.sizes.packed_backward)
        a.packed = data_of(self.packed)
        for k in range(EACH):
            a.parameters[k] = self.tape.arrays.address(self.tape.parameters[self.j * EACH + k])
        with nogil:
            status = run_pass(plan, FASTRNN_PACK_BACKWARD, &a)
        if status != FASTRNN_OK:
            raise_status(status)
        return 0

    def _make_arrays(self, tuple d_final, list d_initial):
        cdef Arrays arrays = self.tape.arrays
        cdef Plan plan = self.plan
        final, self.d_initial = plan._one(arrays, d_final, self.j), plan._one(arrays, d_initial, self.j)
        if self.overwrite and not any(stage.parts for stage in self.stages.stages):
            clear(self.into)
        if not self.stages.dense:
            clear(self.d_initial)
        self.incoming, self.outgoing = list(final), list(self.d_initial)
        if self.stages.regions:
            shape = self.stages.rows(plan.B), plan.H
            self.incoming = [memory.empty(shape, arrays.dtype) for _ in final]
            self.outgoing = [memory.empty(shape, arrays.dtype) for _ in final]
            for incoming, outgoing, given in zip(self.incoming, self.outgoing, final, strict=True):
                incoming[: plan.B] = outgoing[: plan.B] = 0 if given is None else given
        self._set_views()

    cdef int _set_views(self) except -1:
        cdef int k
        cdef fastrnn_view_t view
        for k in range(self.plan.states):
            self.incoming_views[k] = read_only(matrix_view(self.incoming[k], self.tape.arrays.item))
            self.outgoing_views[k] = matrix_view(self.outgoing[k], self.tape.arrays.item)
        return 0

    cdef int run(self, int number, object dy, object dx) except -1:
        """Stage `number`. dy and dx are those of the layer, both directions side by side in dy."""
        cdef bint is_whole
        if self.stages is DENSE and self.tape.checkpoints is None:
            return self._run_part(None, dy, dx, self.into, self.overwrite)
        stage = self.stages.stages[number]
        is_whole = stage.is_whole
        into = self.into if is_whole else [None] * EACH
        for part, problem in zip(stage.parts, self.problems[number], strict=True):
            overwrite = self.overwrite and is_whole
            # One direction: the layer below runs this stage too, and needs the gradients of its losses.
            target = dx if is_whole or (self.layer > 0 and self.plan.directions == 1) else None
            if self.tape.checkpoints is None:
                self._run_part(problem, dy, target, into, overwrite)
            else:
                self._recompute_part(part, dy, target, into, overwrite)
            self.overwrite = self.overwrite and not is_whole
        if stage.initial is not None:
            self._hand_on(stage.initial)
        return 0

    def _hand_on(self, initial):
        """What this stage found is the next one's; some of it belongs to the initial states of these sequences."""
        for member, matrix in zip(self.d_initial, self.outgoing, strict=True):
            if member is not None:
                member[initial] = matrix[self.plan.B + initial]
        self.incoming, self.outgoing = self.outgoing, self.incoming
        self._set_views()

    def _recompute_part(self, part, dy, dx, into, overwrite):
        cdef Arrays arrays = self.tape.arrays
        half = None if dy is None else self.plan._half_inside(arrays, dy, self.direction)
        below = None if dx is None else arrays.inside(dx)
        gradients = WeightGradients(*into)
        incoming, outgoing = States(*self.incoming), States(*self.outgoing)
        of_part = BackwardArrays(half, incoming, below, outgoing, gradients, overwrite)
        recompute.backward_part(self.tape.checkpoints[self.j], part, of_part)

    cdef int _run_part(self, Problem problem, object dy, object dx, list into, bint overwrite) except -1:
        """One call of the core; problem None: dense."""
        cdef Plan plan = self.plan
        cdef Tape tape = self.tape
        cdef Arrays arrays = tape.arrays
        cdef const fastrnn_plan_t *whole = &plan.whole[self.layer > 0]
        cdef fastrnn_arrays_t a
        cdef cnp.ndarray scratch
        cdef char *reserve
        cdef int k, status
        cdef fastrnn_view_t source, d_output
        no_arrays(&a)
        kept = tape.kept[self.j]
        reserve = on_a_line(kept) if tape.has_weights else <char *>arrays.address(kept)
        a.reserve = reserve if whole.sizes.reserve else NULL
        if tape.packed_backward is not None:
            a.packed = data_of(tape.packed_backward[self.j])
        elif tape.parameters is not None:
            a.packed = data_of(self.packed)
            for k in range(EACH):
                a.parameters[k] = arrays.address(tape.parameters[self.j * EACH + k])
        elif plan.packs:
            a.packed = reserve + lines(whole.sizes.reserve)
        else:
            plan.copies(self.layer, reserve + lines(whole.sizes.reserve), arrays.item, <void **>a.parameters)
        source = arrays.sequence(tape.inputs[self.layer])
        d_output = plan.half(arrays.sequence(dy), self.direction, arrays.item)
        a.y = plan.half(arrays.sequence(tape.outputs[self.layer]), self.direction, arrays.item)
        a.dx = arrays.sequence(dx)
        if plan.flipped[self.direction]:
            plan.flip(&source, self.direction, arrays.item)
            plan.flip(&d_output, self.direction, arrays.item)
            plan.flip(&a.y, self.direction, arrays.item)
            plan.flip(&a.dx, self.direction, arrays.item)
        a.x, a.dy = read_only(source), read_only(d_output)
        for k in range(plan.states):
            a.initial[k] = self.initial_views[k]
            a.d_final[k], a.d_initial[k] = self.incoming_views[k], self.outgoing_views[k]
        for k in range(EACH):
            a.gradients[k] = data_of(into[k])
        a.accumulation = FASTRNN_OVERWRITE if overwrite else FASTRNN_ADD
        cdef const fastrnn_plan_t *call = whole if problem is None else &problem.plan
        scratch = scratch_of(call.sizes.scratch_backward)
        a.scratch = data_of(scratch)
        with nogil:
            status = run_pass(call, FASTRNN_BACKWARD, &a)
        if status != FASTRNN_OK:
            raise_status(status)
        return 0


cdef _Down begin_down(
    Plan plan, Tape tape, int j, object stages, tuple d_final, list d_initial, StateView (*views)[STATES], list into,
    bint overwrite,
):
    cdef _Down down = _Down.__new__(_Down)
    cdef int k
    down.plan, down.tape, down.j = plan, tape, j
    down.layer, down.direction = j // plan.directions, j % plan.directions
    down.stages, down.problems, down.overwrite = stages, plan._problems_of(stages, j), overwrite
    down.into = into[j * EACH : (j + 1) * EACH]
    if tape.parameters is not None and plan.packs:
        down.pack()
    for k in range(plan.states):
        down.initial_views[k] = read_only(state_of(views[0][k], j))
        down.incoming_views[k] = read_only(state_of(views[1][k], j))
        down.outgoing_views[k] = state_of(views[2][k], j)
    if stages is not DENSE or tape.checkpoints is not None:
        down._make_arrays(d_final, d_initial)
    return down


cdef fastrnn_view_t matrix_view(object matrix, cnp.npy_intp item) except *:
    """Of an array (rows, H); a null one for None."""
    cdef fastrnn_view_t view = fastrnn_view_t(NULL, 0, 0)
    if matrix is not None:
        view.data = cnp.PyArray_DATA(<cnp.ndarray>matrix)
        view.stride_b = cnp.PyArray_STRIDE(<cnp.ndarray>matrix, 0) // item
    return view


cdef void clear(list arrays) except *:
    """Zero all that are there."""
    for array in arrays:
        if array is not None:
            array[...] = 0


cdef object masked(Arrays arrays, object x, object mask):
    """A sequence times a mask (T, B, n), as a new one."""
    cdef fastrnn_view_t view
    product = arrays.new_sequence(mask.shape[0], mask.shape[1], mask.shape[2], False, &view)
    np.multiply(arrays.inside(x), mask, out=arrays.inside(product))
    return product


cdef object masked_in_place(Arrays arrays, object x, list masks, int layer):
    if masks is not None and masks[layer] is not None:
        inside = arrays.inside(x)
        np.multiply(inside, masks[layer], out=inside)
    return x


def tape_of(
    Plan plan not None, Arrays arrays not None, tuple initial, list parameters, list inputs, list outputs, list kept,
    list masks, starting=None,
):
    """The tape of a forward call without weights (`keeps_weights`), from what it had; parameters: as for forward."""
    cdef Tape tape = new_tape(plan, arrays, inputs[0], initial, None)
    tape.y = outputs[len(outputs) - 1]
    tape.inputs, tape.outputs, tape.kept, tape.masks = inputs, outputs, kept, masks
    tape.parameters, tape.starting = parameters, starting
    return tape


cdef Tape new_tape(Plan plan, Arrays arrays, object x, tuple initial, object owner):
    cdef Tape tape = Tape.__new__(Tape)
    tape.plan, tape.arrays, tape.x, tape.initial, tape.owner = plan, arrays, x, initial, owner
    tape.inputs, tape.outputs, tape.kept = [], [], []
    return tape


cdef class Tape:
    """The values that forward keeps for backward. It refers to x, the initial state and y: do not change them.

    Backward reads x for the gradient of w_ih, and y and the initial state for the state before each step; a change of
    these arrays after forward changes the gradients. A later change of the weights does not. Backward only reads a
    tape, so a tape may be used any number of times. It belongs to its process and cannot be pickled.
    """

    def __init__(self):
        raise TypeError("Tape: expected to be made by a forward call")

    def __reduce__(self):
        raise TypeError("tape: it belongs to its process and cannot be pickled")

    @property
    def kept_bytes(self):
        """Bytes beyond x, y and weights: what each layer and direction saved, or its checkpoints."""
        cdef int j
        if self.checkpoints is not None:
            return sum(one.kept_bytes for one in self.checkpoints)
        return sum([self.plan.whole[j >= self.plan.directions].sizes.reserve for j in range(len(self.kept))])
