# Calls of a stack of layers; see _plan.pyx.
cimport numpy as cnp
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t

from ._core cimport Problem, Schedules, fastrnn_arrays_t, fastrnn_const_view_t, fastrnn_plan_t, fastrnn_view_t


cdef enum:
    STATES = 8  # FASTRNN_STATES_MAX


cdef struct StateView:  # (layers*D, B, H)
    char *data
    ptrdiff_t step, stride_b  # from one layer and direction to the next, in bytes; elements


cdef class Tape


cdef class Arrays:
    cdef readonly str kind
    cdef readonly cnp.dtype dtype
    cdef int type_number, t_axis, b_axis, j_axis, state_b_axis
    cdef cnp.npy_intp item

    cdef void *address(self, object a) except? NULL
    cdef fastrnn_view_t sequence(self, object a) except *
    cdef StateView states_view(self, object a) except *
    cdef object new_bytes(self, size_t size)
    cdef cnp.ndarray new_array_sequence(self, int64_t T, int64_t B, int64_t n, bint zero)
    cdef cnp.ndarray new_array_states(self, int64_t count, int64_t B, int64_t H)
    cdef object new_sequence(self, int64_t T, int64_t B, int64_t n, bint zero, fastrnn_view_t *view)
    cdef object new_states(self, int64_t count, int64_t B, int64_t H, StateView *view)
    cdef cnp.ndarray new_array(self, int rank, cnp.npy_intp *dims)


cdef class Given:
    cdef readonly list inputs  # of each layer and direction; of each input
    cdef readonly cnp.ndarray numbers  # the options


cdef class _Scheduled:
    cdef readonly Schedules schedules
    cdef fastrnn_plan_t plans[2]


cdef class Plan:
    cdef readonly int layers, directions, states, backend, threads
    cdef readonly int each, required  # parameters of one layer in one direction
    cdef readonly int64_t T, B, I, H, rows, width
    cdef readonly tuple batches
    cdef readonly bint is_dense, packs, packs_backward
    cdef readonly Problem like
    cdef fastrnn_plan_t whole[2]
    cdef list scheduled
    cdef dict truncated
    cdef bint pads
    cdef bint flipped[2]
    cdef bint backwards[2]

    cpdef tuple forward(
        self, Arrays arrays, object x, tuple initial, list parameters, list packed, list packed_backward, list masks,
        object checkpoint_steps, object owner, bint training, bint keeps_weights=*, object starting=*, Given given=*,
    )
    cpdef tuple backward(
        self, Tape tape, object dy, tuple d_final, list into, object truncation=*, bint wants_x=*, bint wants_states=*,
        bint overwrite=*, list d_inputs=*,
    )
    cdef cnp.ndarray restart(self, Arrays arrays, StateView *states, cnp.ndarray starting)
    cdef void fill_starting(self, Arrays arrays, StateView states, cnp.ndarray starting, double value)
    cdef tuple up(
        self, Arrays arrays, object x, fastrnn_view_t x_view, tuple initial, StateView *start_views, list parameters,
        list packed, list masks, Tape tape, object checkpoint_steps, bint keeps_weights, Given given,
    )
    cdef object _down_layer(
        self, list cells, int layer, int lowest, int stage, object dy, object dx, list between
    )
    cdef int _lowest(self, list into, bint wants_inputs)
    cdef _Scheduled _new_scheduled(self, Schedules schedules)
    cdef _Scheduled _scheduled(self, int direction, object truncation)
    cdef list packed_weights(self, list parameters, bint backward)
    cdef const fastrnn_plan_t *plan_of(self, int layer, _Scheduled scheduled) noexcept
    cdef int64_t input_size(self, int layer) noexcept
    cdef bint is_required(self, int k) noexcept
    cdef int64_t parameter_size(self, int layer, int k) noexcept
    cdef void flip(self, fastrnn_view_t *view, int direction, cnp.npy_intp item) noexcept
    cdef fastrnn_view_t half(self, fastrnn_view_t y, int direction, cnp.npy_intp item) noexcept
    cdef char *_keep(self, Tape tape, int layer, bint keeps_weights) except? NULL
    cdef int _forward_one(
        self, Arrays arrays, int layer, int direction, fastrnn_view_t x, fastrnn_view_t y, StateView *initial,
        StateView *final, list parameters, list packed, Tape tape, bint keeps_weights, Given given,
    ) except -1
    cdef int set_given(self, Arrays arrays, Given given, int j, fastrnn_arrays_t *a) except -1


cdef class Tape:
    cdef readonly object owner, x, y, checkpoints, starting
    cdef readonly Plan plan
    cdef readonly Arrays arrays
    cdef readonly tuple initial
    cdef readonly Given given
    cdef readonly list inputs, outputs, kept, masks, packed_backward, parameters, has_parameters
    cdef readonly bint has_weights
