# Programs, as csrc/fastrnn.h declares them. This module does not link the library.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t


cdef extern from *:
    """
    #include <complex.h>
    #undef I /* NumPy brings the imaginary unit; here it is the input size */
    """

cdef extern from "fastrnn.h" nogil:
    enum:
        FASTRNN_ONE_COLUMN
        FASTRNN_COLUMNS_OF_INPUT
        FASTRNN_COLUMNS_OF_STATE

    enum:
        FASTRNN_W_HH
        FASTRNN_ALL_UNITS

    enum:
        FASTRNN_STATES_MAX
        FASTRNN_PARAMETERS_MAX
        FASTRNN_INPUTS_MAX
        FASTRNN_OPTIONS_MAX
        FASTRNN_SAVED_MAX
        FASTRNN_SLOTS_MAX
        FASTRNN_INSTRUCTIONS_MAX
        FASTRNN_READS_MAX
        FASTRNN_CONSTANTS_MAX
        FASTRNN_WRITES_MAX
        FASTRNN_PHASES_MAX
        FASTRNN_SUMS_MAX
        FASTRNN_TERMS_MAX
        FASTRNN_PRODUCTS_MAX
        FASTRNN_FACTORS_MAX

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

    ctypedef struct fastrnn_phase_t "struct fastrnn_phase":
        int parameter
        int operand
        int support

    ctypedef struct fastrnn_cell_table_t "struct fastrnn_cell_table":
        const char *name
        int gates, output
        unsigned apart
        int parameter_count, state_count, saved_count, input_count, option_count
        const fastrnn_parameter_t *parameters
        const fastrnn_state_t *states
        const fastrnn_saved_t *saved
        const fastrnn_input_t *inputs
        const fastrnn_option_t *options
        int phase_count
        const fastrnn_phase_t *phases

    ctypedef struct fastrnn_instruction_t "struct fastrnn_instruction":
        uint16_t operation, to, a, b, c

    ctypedef struct fastrnn_read_t "struct fastrnn_read":
        int kind
        int index

    ctypedef struct fastrnn_write_t "struct fastrnn_write":
        int kind
        int index

    ctypedef struct fastrnn_sum_t "struct fastrnn_sum":
        int kind
        int phase, count
        int kept[8]
        int extent

    ctypedef struct fastrnn_code_t "struct fastrnn_code":
        int instruction_count, read_count, constant_count, write_count, phase_count, sum_count
        const fastrnn_instruction_t *instructions
        const fastrnn_read_t *reads
        const double *constants
        const fastrnn_write_t *writes
        const int *phase_ends
        const fastrnn_sum_t *sums

    ctypedef struct fastrnn_slot_t "struct fastrnn_slot":
        int gate, to_input, operand

    ctypedef struct fastrnn_product_t "struct fastrnn_product":
        int gate, forward_phase, kept, backward_phase, factor_count
        fastrnn_read_t factors[2]

    ctypedef struct fastrnn_program_t "struct fastrnn_program":
        size_t struct_size
        const fastrnn_cell_table_t *table
        int saved_state[8]
        int slot_count
        const fastrnn_slot_t *slots
        int product_count
        const fastrnn_product_t *products
        fastrnn_code_t forward, backward


cdef struct CodeLists:  # the lists of a direction
    fastrnn_instruction_t instructions[FASTRNN_INSTRUCTIONS_MAX]
    fastrnn_read_t reads[FASTRNN_READS_MAX]
    double constants[FASTRNN_CONSTANTS_MAX]
    fastrnn_write_t writes[FASTRNN_WRITES_MAX]
    fastrnn_sum_t sums[FASTRNN_SUMS_MAX]
    int phase_ends[FASTRNN_PHASES_MAX]


cdef class CellProgram:
    cdef fastrnn_program_t c
    cdef fastrnn_cell_table_t table
    cdef fastrnn_parameter_t parameters[FASTRNN_PARAMETERS_MAX]
    cdef fastrnn_state_t states[FASTRNN_STATES_MAX]
    cdef fastrnn_saved_t saved[FASTRNN_SAVED_MAX]
    cdef fastrnn_input_t inputs[FASTRNN_INPUTS_MAX]
    cdef fastrnn_option_t options[FASTRNN_OPTIONS_MAX]
    cdef fastrnn_slot_t slots[FASTRNN_SLOTS_MAX]
    cdef fastrnn_product_t products[FASTRNN_PRODUCTS_MAX]
    cdef fastrnn_phase_t phase
    cdef CodeLists forward, backward
    cdef list names
    cdef readonly str name
    cdef readonly tuple input_gradients, defaults  # of the inputs; of the options
    cdef readonly int64_t heads

    cdef const char *_name(self, str name) except NULL
    cdef int _set_table(self, object lowered) except -1
    cdef int _set_products(self, object lowered) except -1
    cdef int _set_code(self, object code, fastrnn_code_t *to, CodeLists *lists) except -1
