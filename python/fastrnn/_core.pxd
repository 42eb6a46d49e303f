# The C interface, as csrc/fastrnn.h declares it.
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t


cdef extern from *:
    """
    #include <complex.h>
    #undef I /* NumPy brings the imaginary unit; here it is the input size */
    """

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
        FASTRNN_TANH
        FASTRNN_SIGMOID

    ctypedef struct fastrnn_schedule_t "struct fastrnn_schedule":
        int64_t steps
        const int64_t *active
        const int64_t *row
        int64_t states
        const int64_t *first
        const int64_t *last
        const int64_t *d_first
        int64_t d_states

    ctypedef struct fastrnn_problem_t "struct fastrnn_problem":
        int cell
        int dtype
        int backend
        int threads
        int team
        int64_t T, B, I, H
        const fastrnn_schedule_t *schedule
        int (*interrupted)() noexcept nogil

    ctypedef struct fastrnn_sizes_t "struct fastrnn_sizes":
        size_t packed_forward, packed_backward, reserve, reserve_row, scratch_forward, scratch_backward

    ctypedef struct fastrnn_weights_t "struct fastrnn_weights":
        const void *w_ih
        const void *w_hh
        const void *b_ih
        const void *b_hh

    ctypedef struct fastrnn_weight_copies_t "struct fastrnn_weight_copies":
        void *w_ih
        void *w_hh

    ctypedef struct fastrnn_weight_gradients_t "struct fastrnn_weight_gradients":
        void *w_ih
        void *w_hh
        void *b_ih
        void *b_hh

    ctypedef struct fastrnn_view_t "struct fastrnn_view":
        void *data
        ptrdiff_t stride_t, stride_b

    ctypedef struct fastrnn_const_view_t "struct fastrnn_const_view":
        const void *data
        ptrdiff_t stride_t, stride_b

    ctypedef struct fastrnn_forward_args_t "struct fastrnn_forward_args":
        const void *packed
        fastrnn_weights_t weights
        fastrnn_weight_copies_t copies
        fastrnn_const_view_t x, h0, c0
        fastrnn_view_t y, c, h_n, c_n
        void *reserve
        void *scratch

    ctypedef struct fastrnn_backward_args_t "struct fastrnn_backward_args":
        const void *packed
        fastrnn_weights_t weights
        fastrnn_const_view_t x, h0, c0, y
        const void *reserve
        fastrnn_const_view_t dy, dh_n, dc_n
        fastrnn_view_t dx, dh0, dc0
        fastrnn_weight_gradients_t d
        int accumulation
        void *scratch

    int fastrnn_query(const fastrnn_problem_t *, fastrnn_sizes_t *)
    int fastrnn_packing_pays(const fastrnn_problem_t *)
    int fastrnn_pack_forward(const fastrnn_problem_t *, const fastrnn_weights_t *, void *)
    int fastrnn_pack_backward(const fastrnn_problem_t *, const fastrnn_weights_t *, void *)
    int fastrnn_forward(const fastrnn_problem_t *, const fastrnn_forward_args_t *)
    int fastrnn_backward(const fastrnn_problem_t *, const fastrnn_backward_args_t *)
    const char *fastrnn_status_message(int)
    const char *fastrnn_cell_name(int)
    int fastrnn_cell_gates(int)
    int fastrnn_cell_states(int)
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
    int fastrnn_same_bytes(const void *, const void *, size_t, int) nogil
    int fastrnn_activate(int, int, int, int64_t, const void *, void *)
