# The C interface, as csrc/fastrnn.h declares it, and what other Cython modules use of _core.pyx. They do not link the
# library: it has one copy in a process.
cimport numpy as cnp
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t

from ._program cimport (
    FASTRNN_COLUMNS_OF_INPUT,
    FASTRNN_COLUMNS_OF_STATE,
    FASTRNN_INPUTS_MAX,
    FASTRNN_ONE_COLUMN,
    FASTRNN_STATES_MAX,
    CellProgram,
    fastrnn_cell_table_t,
    fastrnn_parameter_t,
    fastrnn_program_t,
)

cdef extern from "fastrnn.h" nogil:
    enum:
        FASTRNN_OK
        FASTRNN_TOO_LARGE
        FASTRNN_INTERRUPTED

    enum:
        FASTRNN_CELL_COUNT

    enum:
        FASTRNN_F32
        FASTRNN_F64

    enum:
        FASTRNN_ADD
        FASTRNN_OVERWRITE

    enum:
        FASTRNN_PACK_FORWARD
        FASTRNN_PACK_BACKWARD
        FASTRNN_FORWARD
        FASTRNN_BACKWARD

    enum:
        FASTRNN_TANH
        FASTRNN_SIGMOID
        FASTRNN_EXP
        FASTRNN_EXPM1
        FASTRNN_LOG
        FASTRNN_LOG1P
        FASTRNN_SOFTPLUS
        FASTRNN_LOG_SIGMOID
        FASTRNN_RELU
        FASTRNN_ABS
        FASTRNN_SIGN
        FASTRNN_SQRT

    ctypedef struct fastrnn_schedule_t "struct fastrnn_schedule":
        int64_t steps
        const int64_t *active
        const int64_t *row
        int64_t states
        const int64_t *first
        const int64_t *last
        const int64_t *d_first
        int64_t d_states

    enum:
        FASTRNN_FROM_FIRST_STEP
        FASTRNN_FROM_LAST_STEP

    enum:
        FASTRNN_PADDED
        FASTRNN_PACKED

    ctypedef struct fastrnn_batch_t "struct fastrnn_batch":
        int64_t T, B
        int direction
        int rows
        const int64_t *lengths
        const unsigned char *resets
        ptrdiff_t resets_stride_t, resets_stride_b
        int64_t k1, k2

    ctypedef struct fastrnn_stage_t "struct fastrnn_stage":
        const fastrnn_schedule_t *parts
        int64_t part_count
        const int64_t *initial
        int64_t initial_count

    ctypedef struct fastrnn_schedules_t "struct fastrnn_schedules":
        size_t bytes
        int64_t T, B
        int64_t steps, sequences, rows
        int64_t states, d_states
        int64_t stage_count, whole_stages
        const fastrnn_stage_t *stages
    ctypedef struct fastrnn_pace_t "struct fastrnn_pace":
        pass

    ctypedef struct fastrnn_problem_t "struct fastrnn_problem":
        int cell
        const fastrnn_program_t *program
        int dtype
        int backend
        int threads
        int cut
        int64_t T, B, I, H, heads
        const fastrnn_schedule_t *schedule
        const fastrnn_schedules_t *schedules
        fastrnn_pace_t *pace
        int (*interrupted)() noexcept nogil

    ctypedef struct fastrnn_sizes_t "struct fastrnn_sizes":
        size_t packed_forward, packed_backward, reserve, reserve_row, scratch_forward, scratch_backward, regions

    ctypedef struct fastrnn_view_t "struct fastrnn_view":
        void *data
        ptrdiff_t stride_t, stride_b

    ctypedef struct fastrnn_const_view_t "struct fastrnn_const_view":
        const void *data
        ptrdiff_t stride_t, stride_b

    ctypedef struct fastrnn_plan_t "struct fastrnn_plan":
        size_t struct_size
        fastrnn_sizes_t sizes

    ctypedef struct fastrnn_arrays_t "struct fastrnn_arrays":
        size_t struct_size
        const void *parameters[20]
        void *gradients[20]
        int accumulation
        void *packed
        fastrnn_const_view_t x
        fastrnn_const_view_t inputs[FASTRNN_INPUTS_MAX]
        const double *options
        fastrnn_view_t y
        fastrnn_const_view_t initial[8]
        fastrnn_view_t final[8]
        fastrnn_view_t states[8]
        fastrnn_const_view_t dy
        fastrnn_view_t dx
        fastrnn_const_view_t d_final[8]
        fastrnn_view_t d_initial[8]
        fastrnn_view_t d_inputs[FASTRNN_INPUTS_MAX]
        void *reserve
        void *scratch
        void *regions
        int64_t stage

    ctypedef struct fastrnn_tensor_t "struct fastrnn_tensor":
        void *data
        ptrdiff_t stride_t, stride_b, stride_h

    ctypedef struct fastrnn_const_tensor_t "struct fastrnn_const_tensor":
        const void *data
        ptrdiff_t stride_t, stride_b, stride_h

    enum:
        FASTRNN_LINEAR_FORWARD
        FASTRNN_LINEAR_BACKWARD

    ctypedef struct fastrnn_linear_t "struct fastrnn_linear":
        size_t struct_size
        int dtype
        int backend
        int threads
        int cut
        int64_t T, B, H
        int direction
        const int64_t *lengths
        const unsigned char *resets
        ptrdiff_t resets_stride_t, resets_stride_b
        int (*interrupted)() noexcept nogil
        fastrnn_const_tensor_t a, b, h0, dh
        fastrnn_tensor_t h, da, db, dh0

    ctypedef struct fastrnn_parameter_t "struct fastrnn_parameter":
        const char *name
        int rows_per_unit
        int columns
        int required

    ctypedef struct fastrnn_state_t "struct fastrnn_state":
        const char *name
        double start

    ctypedef struct fastrnn_saved_t "struct fastrnn_saved":
        const char *name
        int per_unit

    ctypedef struct fastrnn_input_t "struct fastrnn_input":
        const char *name
        int columns

    ctypedef struct fastrnn_option_t "struct fastrnn_option":
        const char *name

    ctypedef struct fastrnn_cell_table_t "struct fastrnn_cell_table":
        const char *name
        int gates, output, parameter_count, state_count, saved_count, input_count, option_count
        const fastrnn_parameter_t *parameters
        const fastrnn_state_t *states
        const fastrnn_saved_t *saved
        const fastrnn_input_t *inputs
        const fastrnn_option_t *options

    int fastrnn_measure_schedules(const fastrnn_batch_t *, fastrnn_schedules_t *)
    int fastrnn_bound_schedules(const fastrnn_batch_t *, fastrnn_schedules_t *)
    int fastrnn_build_schedules(const fastrnn_batch_t *, void *, size_t, fastrnn_schedules_t *)
    int fastrnn_make_plan(const fastrnn_problem_t *, fastrnn_plan_t *)
    int fastrnn_run(const fastrnn_plan_t *, int, const fastrnn_arrays_t *)
    int fastrnn_run_linear(const fastrnn_linear_t *, int) nogil
    int fastrnn_packing_pays(const fastrnn_plan_t *, int)
    const fastrnn_cell_table_t *fastrnn_cell_table(int)
    const char *fastrnn_program_error(const fastrnn_program_t *)
    const char *fastrnn_operation_name(int)
    int fastrnn_operation_arguments(int)
    const char *fastrnn_status_message(int)
    int fastrnn_backend_count()
    const char *fastrnn_backend_name(int)
    int fastrnn_backend_runs_here(int)
    int fastrnn_backend_is_hidden(int)
    int fastrnn_backend_can_be_hidden(int)
    int fastrnn_backend_has_fma(int)
    int fastrnn_backend_vector_length(int, int)
    int fastrnn_best_backend()
    const char *fastrnn_openmp_version()
    const char *fastrnn_openmp_library()
    int fastrnn_max_threads()
    int fastrnn_is_forked()
    const char *fastrnn_build()
    int fastrnn_same_bytes(const void *, const void *, size_t, int, fastrnn_pace_t *) nogil
    int fastrnn_activate(int, int, int, int64_t, const void *, void *)


cdef class Schedules:
    cdef fastrnn_schedules_t c
    cdef object memory

    cdef cnp.ndarray _numbers(self, const int64_t *numbers, int64_t n)
cdef class Pace:
    cdef fastrnn_pace_t *paces
    cdef int count

    cdef fastrnn_pace_t *of_layer(self, int layer) noexcept


cdef class Problem:
    cdef fastrnn_problem_t c
    cdef fastrnn_schedule_t schedule_c
    cdef fastrnn_plan_t plan
    cdef readonly object dtype
    cdef readonly object row  # of the registry, or of the program
    cdef readonly object cell  # its name in the registry, or the program
    cdef readonly CellProgram program  # None for a cell of the registry
    cdef const fastrnn_cell_table_t *table
    cdef int type_number
    cdef object kept
    cdef readonly Pace pace
    cdef tuple x_shape, y_shape, state_shape, d_state_shape

    cdef int _set_cell(self, cell) except -1
    cdef int _set_schedule(self, schedule) except -1


cdef inline int64_t columns_of(
    const fastrnn_parameter_t *parameter, int64_t I, const fastrnn_problem_t *like
) noexcept nogil:
    """Of a parameter of a layer with input size I, and with the hidden size and the heads of a problem."""
    if parameter.columns == FASTRNN_COLUMNS_OF_INPUT:
        return I
    return like.H // like.heads if parameter.columns == FASTRNN_COLUMNS_OF_STATE else 1


cdef void no_arrays(fastrnn_arrays_t *arrays) noexcept nogil
cdef int make_plan(const fastrnn_problem_t *problem, fastrnn_plan_t *plan) except -1
cdef bint packing_pays(const fastrnn_plan_t *plan, int kind) noexcept
cdef int run_pass(const fastrnn_plan_t *plan, int kind, const fastrnn_arrays_t *arrays) noexcept nogil
cdef int run_linear(fastrnn_linear_t *linear, int kind) except -1
cdef int raise_status(int status) except -1
cdef cnp.ndarray scratch_of(size_t size)
cdef bint usable(object array, int type_number, int rank) noexcept
cdef bint equal_bytes(size_t address, cnp.ndarray copy, int threads, Pace pace) except -1
