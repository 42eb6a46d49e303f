# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""A call of a stack of layers: the loop up, the loop down, and the one place that fills arrays for the core.

Sequences are (T, B, n) here and states (layers*D, B, H), however the caller lays them out (`Arrays`). Number
j = layer*D + direction counts in the order of torch's parameters.
"""

import numpy as np

from . import checkpoint, memory, recompute
from ._kernel import BackwardArrays

from libc.string cimport memcpy

from ._core cimport (
    FASTRNN_ADD,
    FASTRNN_BACKWARD,
    FASTRNN_FORWARD,
    FASTRNN_OK,
    FASTRNN_OVERWRITE,
    FASTRNN_PACK_BACKWARD,
    FASTRNN_PACK_FORWARD,
    columns_of,
    fastrnn_problem_t,
    make_plan,
    no_arrays,
    packing_pays,
    raise_status,
    run_pass,
    scratch_of,
)

from ._program cimport FASTRNN_ONE_COLUMN, fastrnn_parameter_t

cnp.import_array()

# The schedules of a truncated dense batch are kept if they take no more: training asks for the same ones at each step.
cdef size_t KEPT_BYTES_MAX = 1 << 20

# Smaller arrays come from NumPy: the C library keeps their memory by itself, in less time.
cdef size_t POOLED_BYTES_MIN = memory.POOLED_BYTES_MIN
cdef enum:
    LINE_BYTES = 64

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


cdef class Given:
    """The inputs of each step and the options of a call, which are those of the cell's row.

    inputs: for each layer and direction, then for each input, a sequence that is laid out as x. options: numbers.
    """

    def __init__(self, list inputs not None, options):
        self.inputs = inputs
        self.numbers = np.array(options, np.float64)

    def new_gradients(self, Tape tape not None, tuple wanted not None):
        """Arrays (T, B, H), laid out as x, for the gradients of the inputs; wanted: of each input of the row."""
        cdef Plan plan = tape.plan
        return [
            tape.arrays.new_array_sequence(plan.rows, plan.width, plan.H, plan.pads) if wanted[j % len(wanted)] else None
            for j in range(len(self.inputs))
        ]


cdef class _Scheduled:
    """The schedules of one direction, and plans of them: of the first layer and of the others."""


cdef class Plan:
    """A stack of layers over a batch: the passes of the core, their order and their memory.

    like: a problem of the cell, dtype, backend, threads, pace and hidden size; I: the input size; batches: one for each
    direction. A plan does not change and may be used any number of times, by several threads.
    """

    def __init__(self, Problem like not None, int64_t I, int layers, tuple batches):
        cdef fastrnn_problem_t problem = like.c
        cdef int layer, direction
        first = batches[0]
        self.like, self.layers, self.directions, self.batches = like, layers, len(batches), batches
        self.backend, self.threads = problem.backend, problem.threads
        self.I, self.H, self.states = I, problem.H, like.table.state_count
        self.each = like.table.parameter_count
        self.required = sum(one.required for one in like.row.parameters)
        self.T, self.B = first.T, first.B
        self.rows, self.width = first.grid
        self.is_dense = first.dense
        for direction in range(self.directions):
            self.flipped[direction], self.backwards[direction] = batches[direction].flipped, batches[direction].reverse
        problem.T, problem.B = self.rows, self.width
        for layer in range(min(layers, 2)):
            problem.I = self.input_size(layer)
            problem.pace = NULL if like.pace is None else like.pace.of_layer(layer)
            make_plan(&problem, &self.whole[layer])
        self.truncated = {}
        self.scheduled = [None] * self.directions
        if not self.is_dense:
            self.pads = first.has_padding
            self.scheduled = [self._new_scheduled(batch.schedules) for batch in batches]
        for layer in range(min(layers, 2)):
            self.packs |= packing_pays(self.plan_of(layer, self.scheduled[0]), FASTRNN_FORWARD)
            self.packs_backward |= packing_pays(self.plan_of(layer, self.scheduled[0]), FASTRNN_BACKWARD)

    @property
    def dtype(self):
        return self.like.dtype

    @property
    def cell(self):
        """Its name in the registry, or its program."""
        return self.like.cell

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
        cdef size_t size
        cdef int j, item = self.like.dtype.itemsize
        for j, one in enumerate(parameters):
            size = self.parameter_size(j // self.each // self.directions, j % self.each)
            if one is not None and one.nbytes != size * item:
                raise ValueError("parameters: expected those of the plan")

    def packed_bytes(self, int layer):
        """Of a layer's weights in one direction, for forward."""
        return self.whole[layer > 0].sizes.packed_forward

    cdef int64_t input_size(self, int layer) noexcept:
        return self.I if layer == 0 else self.directions * self.H

    cdef _Scheduled _new_scheduled(self, Schedules schedules):
        cdef _Scheduled found = _Scheduled.__new__(_Scheduled)
        cdef fastrnn_problem_t problem = self.like.c
        cdef int layer
        found.schedules = schedules
        problem.T, problem.B, problem.schedules = self.rows, self.width, &schedules.c
        for layer in range(min(self.layers, 2)):
            problem.I = self.input_size(layer)
            problem.pace = NULL if self.like.pace is None else self.like.pace.of_layer(layer)
            make_plan(&problem, &found.plans[layer])
        return found

    cdef _Scheduled _scheduled(self, int direction, object truncation):
        """The schedules of backward; None: dense."""
        cdef _Scheduled found
        batch = self.batches[direction]
        window = None if truncation is None else batch.window(truncation)
        if window is None:
            return self.scheduled[direction]
        if not self.is_dense:
            return self._new_scheduled(batch.truncated(window))
        found = self.truncated.get(window)  # the same in both directions
        if found is None:
            found = self._new_scheduled(batch.truncated(window))
            self.truncated.clear()
            if found.schedules.c.bytes <= KEPT_BYTES_MAX:
                self.truncated[window] = found
        return found

    cdef const fastrnn_plan_t *plan_of(self, int layer, _Scheduled scheduled) noexcept:
        """The plan of a layer in one direction; scheduled None: dense."""
        return &self.whole[layer > 0] if scheduled is None else &scheduled.plans[layer > 0]

    cdef list packed_weights(self, list parameters, bint backward):
        """The packed weights of each layer and direction, for forward or for backward."""
        cdef int j, k, status
        cdef int kind = FASTRNN_PACK_BACKWARD if backward else FASTRNN_PACK_FORWARD
        cdef const fastrnn_plan_t *plan
        cdef fastrnn_arrays_t a
        cdef cnp.ndarray packed
        cdef list found = []
        for j in range(self.layers * self.directions):
            plan = &self.whole[j >= self.directions]
            packed = new_bytes(plan.sizes.packed_backward if backward else plan.sizes.packed_forward)
            no_arrays(&a)
            for k in range(self.each):
                a.parameters[k] = data_of(parameters[j * self.each + k])
            a.packed = data_of(packed)
            with nogil:
                status = run_pass(plan, kind, &a)
            if status != FASTRNN_OK:
                raise_status(status)
            found.append(packed)
        return found

    cdef bint is_required(self, int k) noexcept:
        """Whether no call may be without parameter k."""
        return self.like.table.parameters[k].required

    cdef int64_t parameter_size(self, int layer, int k) noexcept:
        """The numbers of parameter k of a layer in one direction."""
        cdef const fastrnn_parameter_t *parameter = &self.like.table.parameters[k]
        return parameter.rows_per_unit * self.H * columns_of(parameter, self.input_size(layer), &self.like.c)

    # ---- up ----

    cpdef tuple forward(
        self, Arrays arrays, object x, tuple initial, list parameters, list packed, list packed_backward, list masks,
        object checkpoint_steps, object owner, bint training, bint keeps_weights=True, object starting=None,
        Given given=None,
    ):
        """Returns (y, final states, tape); the tape is None unless training.

        parameters: those of the cell's table for each layer and direction, contiguous, None for an absent parameter.
        packed, packed_backward: the packed weights of each layer and direction, or None. masks: dropout's mask of each
        layer's input. keeps_weights: the tape keeps copies of the current weights; otherwise the caller gives backward
        the weights. starting: in a dense batch, whether each sequence (B,) ignores its initial state. given: None for a
        cell without inputs of each step and options.
        """
        cdef int k
        cdef Tape tape = None
        cdef StateView start_views[STATES]
        if training:
            tape = new_tape(self, arrays, x, initial, owner)
            tape.masks, tape.packed_backward = masks, packed_backward
            tape.has_parameters = None if parameters is None else [one is not None for one in parameters]
            tape.checkpoints = None if checkpoint_steps is None else []
            tape.starting, tape.given = starting, given
        for k in range(self.states):
            start_views[k] = arrays.states_view(initial[k])
        if starting is not None:
            copies = self.restart(arrays, start_views, starting)
        y, final = self.up(arrays, x, arrays.sequence(x), initial, start_views, parameters, packed, masks, tape,
                           checkpoint_steps, keeps_weights, given)
        return y, final, tape

    cdef cnp.ndarray restart(self, Arrays arrays, StateView *states, cnp.ndarray starting):
        """Copy initial states, with the start values for the sequences that start anew, and let the views be of the copies.

        Returns the memory of the copies.
        """
        cdef cnp.npy_intp size = self.H * arrays.item
        cdef size_t each = self.layers * self.directions * self.B * size
        cdef cnp.ndarray found = new_bytes(self.states * each)
        cdef StateView copy = StateView(<char *>cnp.PyArray_DATA(found), self.B * size, self.H)
        cdef int j, k
        cdef int64_t b
        for k in range(self.states):
            if states[k].data is NULL:
                continue
            for j in range(self.layers * self.directions):
                for b in range(self.B):
                    memcpy(copy.data + j * copy.step + b * size,
                           states[k].data + j * states[k].step + b * states[k].stride_b * arrays.item, size)
            self.fill_starting(arrays, copy, starting, self.like.row.starts[k])
            states[k] = copy
            copy.data += each
        return found

    cdef void fill_starting(self, Arrays arrays, StateView states, cnp.ndarray starting, double value):
        """Fill the states of the sequences that start anew, in the directions from the first step."""
        cdef const unsigned char *marks = <const unsigned char *>cnp.PyArray_DATA(starting)
        cdef bint is_double = arrays.type_number == cnp.NPY_FLOAT64
        cdef int64_t b, u
        cdef char *row
        cdef int j
        for j in range(self.layers * self.directions if states.data is not NULL else 0):
            if self.backwards[j % self.directions]:
                continue
            for b in range(self.B):
                row = states.data + j * states.step + b * states.stride_b * arrays.item
                for u in range(self.H if marks[b] else 0):
                    if is_double:
                        (<double *>row)[u] = value
                    else:
                        (<float *>row)[u] = <float>value

    cdef tuple up(
        self, Arrays arrays, object x, fastrnn_view_t x_view, tuple initial, StateView *start_views, list parameters,
        list packed, list masks, Tape tape, object checkpoint_steps, bint keeps_weights, Given given,
    ):
        """All layers and directions: (y, final states). start_views: of the states before the first step."""
        cdef int layer, direction, k, count = self.layers * self.directions
        cdef list final = []
        cdef StateView final_views[STATES]
        cdef fastrnn_view_t y_view
        cdef object y = x
        for k in range(self.states):
            final.append(arrays.new_states(count, self.B, self.H, &final_views[k]))
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
                                  packed, tape, keeps_weights, given)
            if tape is not None:
                tape.inputs.append(x)
                tape.outputs.append(y)
            x, x_view = y, y_view
        if tape is not None:
            tape.y = y
        return y, tuple(final)

    cdef int _forward_one(
        self, Arrays arrays, int layer, int direction, fastrnn_view_t x, fastrnn_view_t y, StateView *initial,
        StateView *final, list parameters, list packed, Tape tape, bint keeps_weights, Given given,
    ) except -1:
        cdef int j = layer * self.directions + direction, k, status = FASTRNN_OK
        cdef const fastrnn_plan_t *plan = self.plan_of(layer, self.scheduled[direction])
        cdef fastrnn_arrays_t a, of_backward
        cdef cnp.ndarray buffer = None, scratch = scratch_of(plan.sizes.scratch_forward)
        cdef bint packs = packed is None and self.packs, packs_backward = False
        cdef char *area = NULL
        no_arrays(&a)
        a.y = self.half(y, direction, arrays.item)
        self.flip(&x, direction, arrays.item)
        self.flip(&a.y, direction, arrays.item)
        a.x = read_only(x)
        self.set_given(arrays, given, j, &a)
        for k in range(self.states):
            a.initial[k] = read_only(state_of(initial[k], j))
            a.final[k] = state_of(final[k], j)
        if packed is not None:
            a.packed = data_of(packed[j])
        if parameters is not None:
            for k in range(self.each):
                a.parameters[k] = arrays.address(parameters[j * self.each + k])
        if packs:
            buffer = new_bytes(plan.sizes.packed_forward)
            a.packed = data_of(buffer)
        if tape is not None:
            keeps_weights = keeps_weights and tape.packed_backward is None
            packs_backward = keeps_weights
            area = self._keep(tape, layer, keeps_weights)
            a.reserve = area if plan.sizes.reserve else NULL
            if keeps_weights:
                area += lines(plan.sizes.reserve)
        if packs_backward:
            no_arrays(&of_backward)
            for k in range(self.each):
                of_backward.parameters[k] = a.parameters[k]
            of_backward.packed = area
        a.scratch = data_of(scratch)
        with nogil:
            if packs:
                status = run_pass(plan, FASTRNN_PACK_FORWARD, &a)
            if packs_backward and status == FASTRNN_OK:
                status = run_pass(plan, FASTRNN_PACK_BACKWARD, &of_backward)
            if status == FASTRNN_OK:
                status = run_pass(plan, FASTRNN_FORWARD, &a)
        if status != FASTRNN_OK:
            raise_status(status)
        return 0

    cdef int set_given(self, Arrays arrays, Given given, int j, fastrnn_arrays_t *a) except -1:
        """The inputs of each step of layer and direction j, and the options."""
        cdef int k
        cdef fastrnn_view_t view
        if given is None:
            return 0
        for k in range(self.like.table.input_count):
            view = arrays.sequence(given.inputs[j * self.like.table.input_count + k])
            self.flip(&view, j % self.directions, arrays.item)
            a.inputs[k] = read_only(view)
        if self.like.table.option_count > 0:
            a.options = <const double *>cnp.PyArray_DATA(given.numbers)
        return 0

    cdef char *_keep(self, Tape tape, int layer, bint keeps_weights) except? NULL:
        """Memory of the next layer and direction in a tape: the reserve and, both on a line, the weights."""
        cdef size_t reserve = self.whole[layer > 0].sizes.reserve, beside
        if not keeps_weights:
            kept = tape.arrays.new_bytes(reserve) if reserve else None
            tape.kept.append(kept)
            return <char *>tape.arrays.address(kept)
        beside = self.whole[layer > 0].sizes.packed_backward
        kept = tape.arrays.new_bytes(LINE_BYTES + lines(reserve) + beside)
        tape.has_weights = True
        tape.kept.append(kept)
        return on_a_line(kept)

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
        cdef int count = self.like.table.input_count
        cdef Given given = tape.given
        inputs = () if given is None else tuple(map(tape.arrays.inside, given.inputs[j * count : (j + 1) * count]))
        weights = tuple(parameters[j * self.each : (j + 1) * self.each])
        both = None if packed is None else packed[j], None if packed is None else tape.packed_backward[j]
        tape.checkpoints.append(
            checkpoint.run_forward_checkpointed(
                self.cell, tape.arrays.inside(x), weights, *both, self._half_inside(tape.arrays, y, direction),
                self._starts(tape, j, initial), self._one(tape.arrays, final, j),
                self.batches[direction], n, inputs, () if given is None else tuple(given.numbers),
            )
        )

    def _half_inside(self, Arrays arrays, y, int direction):
        whole = arrays.inside(y)
        return whole[:, :, direction * self.H : (direction + 1) * self.H]

    def _starts(self, Tape tape, int j, initial):
        """The initial states (B, H) of layer and direction j."""
        states = self._one(tape.arrays, initial, j)
        if tape.starting is None or self.backwards[j % self.directions]:
            return states
        return tuple([None if one is None else np.where(tape.starting[:, None], one.dtype.type(start), one)
                      for one, start in zip(states, self.like.row.starts, strict=True)])

    def _one(self, Arrays arrays, states, int j):
        """Arrays (B, H) of layer and direction j."""
        return tuple([None if one is None else arrays.states_inside(one)[j] for one in states])

    # ---- down ----

    cpdef tuple backward(
        self, Tape tape, object dy, tuple d_final, list into, object truncation=None, bint wants_x=True,
        bint wants_states=True, bint overwrite=True, list d_inputs=None,
    ):
        """(dx, gradients of the initial states), None where not wanted; `into` takes those of the parameters.

        into: as the parameters; None: not wanted. d_inputs: as `Given.inputs`, from `Given.new_gradients`, to be filled.
        """
        cdef Arrays arrays = tape.arrays
        cdef int layer, j, number, D = self.directions, count = self.layers * D
        cdef int64_t stages = 1
        cdef int lowest = self._lowest(into, wants_x or wants_states or d_inputs is not None)
        cdef list d_initial = [None] * self.states, cells = [None] * (lowest * D), between = [None] * 4
        cdef StateView views[3][STATES]  # of initial states, and of gradients of final and initial ones
        cdef list scheduled = [self._scheduled(j, truncation) for j in range(D)]
        # A window of one direction is one of the whole stack, so each stage goes all the way down. With two directions,
        # each layer and direction has windows of its own.
        if D == 1 and self.layers > 1 and scheduled[0] is not None:
            stages = (<_Scheduled>scheduled[0]).schedules.c.stage_count
        dx = arrays.new_array_sequence(self.rows, self.width, self.I, self.pads) if wants_x else None
        if wants_states:
            d_initial = [arrays.new_array_states(count, self.B, self.H) for j in range(self.states)]
        for j in range(self.states):
            views[0][j] = arrays.states_view(tape.initial[j])
            views[1][j] = arrays.states_view(d_final[j])
            views[2][j] = arrays.states_view(d_initial[j])
        if tape.starting is not None:
            copies = self.restart(arrays, views[0], tape.starting)
        for j in range(lowest * D, count):
            cells.append(begin_down(self, tape, j, scheduled[j % D], d_final, d_initial, views, into, overwrite, d_inputs))
        for number in range(stages):
            above = dy
            for layer in range(self.layers - 1, lowest - 1, -1):
                below = self._down_layer(cells, layer, lowest, number if stages > 1 else -1, above, dx, between)
                above = None if below is None else masked_in_place(arrays, below, tape.masks, layer)
        if wants_states and tape.starting is not None:
            for j in range(self.states):
                self.fill_starting(arrays, views[2][j], tape.starting, 0)
        return dx, tuple(d_initial)

    cdef object _down_layer(
        self, list cells, int layer, int lowest, int stage, object dy, object dx, list between
    ):
        """The gradient of the layer's input, None where nobody wants it; stage -1: all of them."""
        cdef int direction, slot
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
                    between[slot] = arrays.new_array_sequence(self.rows, self.width, n, self.pads or stage >= 0)
                part = between[slot]
            cell.run(stage, dy, part)
            if part is not None:
                total = part if total is None else np.add(total, part, out=total)
        return total

    cdef int _lowest(self, list into, bint wants_inputs):
        """The lowest layer to run."""
        cdef int j
        if not wants_inputs:
            for j in range(len(into)):
                if into[j] is not None:
                    return j // self.each // self.directions
        return 0


cdef class _Down:
    """Backward of one layer in one direction.

    Overwrites the gradients of the initial states and, unless they are added to, those of the parameters.
    """

    cdef Plan plan
    cdef Tape tape
    cdef int j, layer, direction
    cdef _Scheduled scheduled  # None: dense
    cdef object again  # computes the steps of a tape with checkpoints again
    cdef list into
    cdef list d_inputs  # None: not wanted
    cdef cnp.ndarray packed  # for a tape that has no weights packed
    cdef cnp.ndarray regions  # gradients of states, from stage to stage
    cdef fastrnn_const_view_t d_final_views[STATES]
    cdef fastrnn_view_t d_initial_views[STATES]
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
        for k in range(self.plan.each):
            a.parameters[k] = self.tape.arrays.address(self.tape.parameters[self.j * self.plan.each + k])
        with nogil:
            status = run_pass(plan, FASTRNN_PACK_BACKWARD, &a)
        if status != FASTRNN_OK:
            raise_status(status)
        return 0

    cdef int run(self, int stage, object dy, object dx) except -1:
        """Stage `stage`; -1: all of them. dy and dx are those of the layer, both directions side by side in dy."""
        cdef Arrays arrays = self.tape.arrays
        # The layer below runs this stage too, and needs the gradients of its losses.
        if stage >= 0 and self.layer == 0 and not self.scheduled.schedules.is_whole(stage):
            dx = None
        if self.again is None:
            return self._run_stage(stage, dy, dx)
        half = None if dy is None else self.plan._half_inside(arrays, dy, self.direction)
        self.again.run(stage, half, None if dx is None else arrays.inside(dx))
        return 0

    cdef int _run_stage(self, int stage, object dy, object dx) except -1:
        """One call of the core."""
        cdef Plan plan = self.plan
        cdef Tape tape = self.tape
        cdef Arrays arrays = tape.arrays
        cdef const fastrnn_plan_t *whole = plan.plan_of(self.layer, self.scheduled)
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
            for k in range(plan.each):
                a.parameters[k] = arrays.address(tape.parameters[self.j * plan.each + k])
        else:
            a.packed = reserve + lines(whole.sizes.reserve)
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
        plan.set_given(arrays, tape.given, self.j, &a)
        if self.d_inputs is not None and (stage < 0 or self.scheduled.schedules.is_whole(stage)):
            for k in range(len(self.d_inputs)):
                a.d_inputs[k] = arrays.sequence(self.d_inputs[k])
                plan.flip(&a.d_inputs[k], self.direction, arrays.item)
        for k in range(plan.states):
            a.initial[k] = self.initial_views[k]
            a.d_final[k], a.d_initial[k] = self.d_final_views[k], self.d_initial_views[k]
        for k in range(plan.each):
            a.gradients[k] = data_of(self.into[k])
        a.accumulation = FASTRNN_OVERWRITE if self.overwrite else FASTRNN_ADD
        scratch = scratch_of(whole.sizes.scratch_backward)
        a.scratch, a.regions, a.stage = data_of(scratch), data_of(self.regions), stage + 1
        with nogil:
            status = run_pass(whole, FASTRNN_BACKWARD, &a)
        if status != FASTRNN_OK:
            raise_status(status)
        return 0


cdef _Down begin_down(
    Plan plan, Tape tape, int j, _Scheduled scheduled, tuple d_final, list d_initial, StateView (*views)[STATES],
    list into, bint overwrite, list d_inputs,
):
    cdef _Down down = _Down.__new__(_Down)
    cdef int k
    cdef size_t regions
    down.plan, down.tape, down.j = plan, tape, j
    down.layer, down.direction = j // plan.directions, j % plan.directions
    down.scheduled, down.overwrite = scheduled, overwrite
    down.into = into[j * plan.each : (j + 1) * plan.each]
    if d_inputs is not None:
        k = plan.like.table.input_count
        down.d_inputs = d_inputs[j * k : (j + 1) * k]
    if tape.parameters is not None and plan.packs_backward:
        down.pack()
    for k in range(plan.states):
        down.initial_views[k] = read_only(state_of(views[0][k], j))
        down.d_final_views[k] = read_only(state_of(views[1][k], j))
        down.d_initial_views[k] = state_of(views[2][k], j)
    if tape.checkpoints is not None:
        states = plan._one(tape.arrays, d_final, j), plan._one(tape.arrays, d_initial, j)
        inputs = () if d_inputs is None else tuple(
            None if one is None else tape.arrays.inside(one) for one in down.d_inputs
        )
        given = BackwardArrays(None, states[0], None, states[1], tuple(down.into), overwrite, inputs)
        schedules = None if scheduled is None else scheduled.schedules
        down.again = recompute.StagedBackward(tape.checkpoints[j], schedules, given)
        return down
    regions = plan.plan_of(down.layer, scheduled).sizes.regions
    if regions > 0:
        down.regions = new_bytes(regions)
    return down


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
    list masks, starting=None, Given given=None,
):
    """The tape of a forward call without weights (`keeps_weights`), from what it had; parameters: as for forward."""
    cdef Tape tape = new_tape(plan, arrays, inputs[0], initial, None)
    tape.y = outputs[len(outputs) - 1]
    tape.inputs, tape.outputs, tape.kept, tape.masks = inputs, outputs, kept, masks
    tape.parameters, tape.starting, tape.given = parameters, starting, given
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
