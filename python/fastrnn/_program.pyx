# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""A lowered program in the memory of a Python object, as the C interface reads it.

The lists fit their memory. Everything else is checked by the library when a plan is made.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset


cdef int _fits(str name, object entries, int most) except -1:
    if len(entries) > most:
        raise ValueError(f"{name}: expected at most {most}, got {len(entries)}")
    return <int>len(entries)


cdef class CellProgram:
    """A cell for `_core.Problem`, from a `cell.lower.Lowered` or an object with the same attributes.

    heads: the units form so many heads, and w_hh multiplies the units of a unit's own head.
    """

    def __init__(self, lowered not None, int64_t heads=1):
        cdef int j
        if heads < 1:
            raise ValueError(f"heads: expected an integer of at least 1, got {heads}")
        self.heads = heads
        memset(&self.c, 0, sizeof(self.c))
        memset(&self.table, 0, sizeof(self.table))
        self.names = []
        self.name = lowered.name
        self.input_gradients, self.defaults = tuple(lowered.input_gradients), tuple(lowered.defaults)
        self._set_table(lowered)
        self.c.struct_size = sizeof(fastrnn_program_t)
        self.c.table = &self.table
        for j in range(FASTRNN_STATES_MAX):
            self.c.saved_state[j] = -1
        for j in range(_fits("saved_state", lowered.saved_state, FASTRNN_STATES_MAX)):
            self.c.saved_state[j] = lowered.saved_state[j]
        self.c.slot_count = _fits("slots", lowered.slots, FASTRNN_SLOTS_MAX)
        for j, (gate, to_input, operand) in enumerate(lowered.slots):
            self.slots[j] = fastrnn_slot_t(gate, to_input, operand)
        self.c.slots = self.slots
        self._set_products(lowered)
        self._set_code(lowered.forward, &self.c.forward, &self.forward)
        self._set_code(lowered.backward, &self.c.backward, &self.backward)

    cdef const char *_name(self, str name) except NULL:
        """Text that lives as long as the program."""
        cdef bytes text = name.encode()
        self.names.append(text)
        return text

    cdef int _set_table(self, object lowered) except -1:
        cdef int j, gates = lowered.gates
        columns = FASTRNN_COLUMNS_OF_INPUT, FASTRNN_COLUMNS_OF_STATE, FASTRNN_ONE_COLUMN, FASTRNN_ONE_COLUMN
        matrices = ("w_ih", "w_hh", "b_ih", "b_hh")
        self.table.name = self._name(lowered.name)
        self.table.gates, self.table.output, self.table.apart = gates, lowered.output, lowered.apart
        self.table.parameter_count = 4 + _fits("vectors", lowered.vectors, FASTRNN_PARAMETERS_MAX - 4)
        for j, (name, column) in enumerate(zip(matrices, columns)):
            self.parameters[j] = fastrnn_parameter_t(self._name(name), gates, column, j < 2)
        for j, name in enumerate(lowered.vectors):
            self.parameters[4 + j] = fastrnn_parameter_t(self._name(name), 1, FASTRNN_ONE_COLUMN, True)
        self.table.state_count = _fits("states", lowered.states, FASTRNN_STATES_MAX)
        for j, (name, start) in enumerate(lowered.states):
            self.states[j] = fastrnn_state_t(self._name(name), start)
        self.table.saved_count = _fits("saved", lowered.saved, FASTRNN_SAVED_MAX)
        for j, name in enumerate(lowered.saved):
            self.saved[j] = fastrnn_saved_t(self._name(name), 1)
        self.table.input_count = _fits("inputs", lowered.inputs, FASTRNN_INPUTS_MAX)
        for j, (name, one) in enumerate(lowered.inputs):
            self.inputs[j] = fastrnn_input_t(self._name(name), FASTRNN_ONE_COLUMN if one else FASTRNN_COLUMNS_OF_STATE)
        self.table.option_count = _fits("options", lowered.options, FASTRNN_OPTIONS_MAX)
        for j, name in enumerate(lowered.options):
            self.options[j] = fastrnn_option_t(self._name(name))
        self.phase = fastrnn_phase_t(FASTRNN_W_HH, 0, FASTRNN_ALL_UNITS)
        self.table.parameters, self.table.states, self.table.saved = self.parameters, self.states, self.saved
        self.table.inputs, self.table.options = self.inputs, self.options
        self.table.phase_count, self.table.phases = 1, &self.phase
        return 0

    cdef int _set_products(self, object lowered) except -1:
        cdef int j, k
        self.c.product_count = _fits("products", lowered.products, FASTRNN_PRODUCTS_MAX)
        for j, one in enumerate(lowered.products):
            self.products[j].gate, self.products[j].kept = one.gate, one.kept
            self.products[j].forward_phase, self.products[j].backward_phase = one.forward_phase, one.backward_phase
            self.products[j].factor_count = _fits("factors", one.factors, FASTRNN_FACTORS_MAX)
            for k, (kind, index) in enumerate(one.factors):
                self.products[j].factors[k] = fastrnn_read_t(kind, index)
        self.c.products = self.products
        return 0

    cdef int _set_code(self, object code, fastrnn_code_t *to, CodeLists *lists) except -1:
        cdef int j, k
        to.instruction_count = _fits("instructions", code.instructions, FASTRNN_INSTRUCTIONS_MAX)
        for j, (operation, target, a, b, c) in enumerate(code.instructions):
            lists.instructions[j] = fastrnn_instruction_t(operation, target, a, b, c)
        to.read_count = _fits("reads", code.reads, FASTRNN_READS_MAX)
        for j, (kind, index) in enumerate(code.reads):
            lists.reads[j] = fastrnn_read_t(kind, index)
        to.constant_count = _fits("constants", code.constants, FASTRNN_CONSTANTS_MAX)
        for j, number in enumerate(code.constants):
            lists.constants[j] = number
        to.write_count = _fits("writes", code.writes, FASTRNN_WRITES_MAX)
        for j, (kind, index) in enumerate(code.writes):
            lists.writes[j] = fastrnn_write_t(kind, index)
        to.sum_count = _fits("sums", code.sums, FASTRNN_SUMS_MAX)
        for j, (kind, phase, kept, extent) in enumerate(code.sums):
            lists.sums[j].kind, lists.sums[j].phase, lists.sums[j].extent = kind, phase, extent
            lists.sums[j].count = _fits("kept", kept, FASTRNN_TERMS_MAX)
            for k, index in enumerate(kept):
                lists.sums[j].kept[k] = index
        to.phase_count = _fits("phases", code.phase_ends, FASTRNN_PHASES_MAX)
        for j, end in enumerate(code.phase_ends):
            lists.phase_ends[j] = end
        to.instructions, to.reads, to.constants = lists.instructions, lists.reads, lists.constants
        to.writes, to.phase_ends, to.sums = lists.writes, lists.phase_ends, lists.sums
        return 0
