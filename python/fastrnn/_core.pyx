# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The C core, as functions on NumPy arrays.

This module checks arrays against the problem's sizes, so no call from Python can make the core read or write out of
bounds. Defaults, shapes for users and the choice of packing belong to the modules that call this one.
"""

cimport numpy as cnp
from cpython.pythread cimport (
    NOWAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
    WAIT_LOCK,
)
from libc.stdlib cimport calloc, free
from libc.string cimport memset

import os
from typing import NamedTuple

import numpy as np

cnp.import_array()

CUTS = "auto", "one", "sequences", "units", "pieces", "all"  # in the order of enum fastrnn_cut


class Backend(NamedTuple):
    """An instruction set that the kernels were compiled for."""

    name: str
    runs_here: bool
    has_fma: bool
    vector_length: dict
    hidden: bool
    can_be_hidden: bool


class Parameter(NamedTuple):
    """A parameter of a cell: a matrix (rows_per_unit*H, I or H/heads), or a vector (rows_per_unit*H,)."""

    name: str
    rows_per_unit: int
    columns: str  # "I", "H", "H/heads", or "" for a vector
    required: bool
    heads: int = 1

    def shape(self, I, H):
        """Its shape in a layer of these sizes."""
        rows = self.rows_per_unit * H
        return (rows, I if self.columns == "I" else H // self.heads) if self.columns else (rows,)


class Cell(NamedTuple):
    """A row of the registry, or the same of a program: parameters, states, and start values of absent initial states.

    `saved` maps the saved vectors to their number for each unit; `inputs` and `options` are names.
    """

    gates: int
    output: int  # the number of the state that is y, or -1
    parameters: tuple
    states: tuple
    starts: tuple
    saved: dict
    inputs: tuple
    options: tuple
    input_columns: tuple  # "H", or "" for one number for all units
    input_gradients: tuple  # whether there is one
    defaults: tuple  # of the options
    heads: int = 1


cdef object row_of(const fastrnn_cell_table_t *table, CellProgram program):
    """A row of the registry, or of a program."""
    columns = {FASTRNN_ONE_COLUMN: "", FASTRNN_COLUMNS_OF_INPUT: "I", FASTRNN_COLUMNS_OF_STATE: "H"}
    heads = 1 if program is None else program.heads
    of_parameter = columns if heads == 1 else columns | {FASTRNN_COLUMNS_OF_STATE: "H/heads"}
    parameters = []
    for k in range(table.parameter_count):
        one = table.parameters[k]
        required, letters = bool(one.required), of_parameter[one.columns]
        parameters.append(Parameter(one.name.decode(), one.rows_per_unit, letters, required, heads))
    states = tuple([table.states[k].name.decode() for k in range(table.state_count)])
    starts = tuple([table.states[k].start for k in range(table.state_count)])
    saved = {table.saved[k].name.decode(): table.saved[k].per_unit for k in range(table.saved_count)}
    inputs = tuple([table.inputs[k].name.decode() for k in range(table.input_count)])
    options = tuple([table.options[k].name.decode() for k in range(table.option_count)])
    input_columns = tuple([columns[table.inputs[k].columns] for k in range(table.input_count)])
    gradients, defaults = (False,) * len(inputs), (0.0,) * len(options)
    if program is not None:
        gradients, defaults = program.input_gradients, program.defaults
    return Cell(table.gates, table.output, tuple(parameters), states, starts, saved, inputs, options, input_columns,
                gradients, defaults, heads)


def cells():
    """The registry: name -> row."""
    cdef int j
    return {
        fastrnn_cell_table(j).name.decode(): row_of(fastrnn_cell_table(j), None)
        for j in range(<int>FASTRNN_CELL_COUNT)
    }


def operations():
    """The operations of programs: name -> (number, number of arguments)."""
    found, number = {}, 0
    while fastrnn_operation_name(number) is not NULL:
        found[fastrnn_operation_name(number).decode()] = number, fastrnn_operation_arguments(number)
        number += 1
    return found


def program_error(CellProgram program not None):
    """A message about the first rule that the program breaks; None if it is sound."""
    cdef const char *message = fastrnn_program_error(&program.c)
    return None if message is NULL else message.decode()


def row_of_program(CellProgram program not None):
    """The row of a program; ValueError for an unsound program."""
    message = program_error(program)
    if message is not None:
        raise ValueError(f"program: {message}")
    return row_of(&program.table, program)


def backends():
    """All backends of this build, best first."""
    return [
        Backend(
            fastrnn_backend_name(j).decode(),
            bool(fastrnn_backend_runs_here(j)),
            bool(fastrnn_backend_has_fma(j)),
            {
                "float32": fastrnn_backend_vector_length(j, FASTRNN_F32),
                "float64": fastrnn_backend_vector_length(j, FASTRNN_F64),
            },
            bool(fastrnn_backend_is_hidden(j)),
            bool(fastrnn_backend_can_be_hidden(j)),
        )
        for j in range(fastrnn_backend_count())
    ]


def best_backend():
    """The index of the best backend that runs here; -1 if FASTRNN_HIDE has a name that cannot be hidden."""
    return fastrnn_best_backend()


def openmp_version():
    """The OpenMP version that the core was compiled for, or "none"."""
    return fastrnn_openmp_version().decode()


def openmp_library():
    """The file of the OpenMP runtime that the core calls; None if there is none or it is unknown."""
    cdef const char *path = fastrnn_openmp_library()
    return os.fsdecode(path) if path != NULL else None


def build():
    """The compiler of the core, and its flags for all files."""
    return fastrnn_build().decode()


def max_threads():
    """The threads that OpenMP would use now; 1 in the child of a fork and without OpenMP."""
    return fastrnn_max_threads()


def is_forked():
    """Whether this process is the fork of a process that had loaded fastrnn."""
    return bool(fastrnn_is_forked())


cdef dict _CELL_INDEX = {name: j for j, name in enumerate(cells())}
cdef list _ROWS = list(cells().values())


cdef int _type_number(object dtype) except -1:
    cdef int number = (<cnp.dtype>cnp.dtype(dtype)).type_num
    if number != cnp.NPY_FLOAT32 and number != cnp.NPY_FLOAT64:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype}")
    return number


include "_interrupt.pxi"


cdef int raise_status(int status) except -1:
    if status == FASTRNN_INTERRUPTED:
        return -1  # with the exception that a signal handler raised
    message = fastrnn_status_message(status).decode()
    raise OverflowError(message) if status == FASTRNN_TOO_LARGE else ValueError(message)


cdef cnp.ndarray _array(object array, str name, int type_number, tuple shape, bint writeable):
    """`array` itself, if the core can use it: its dtype and shape, aligned, whole strides, contiguous last axis."""
    if not isinstance(array, cnp.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(array).__name__}")
    if type(array) is not cnp.ndarray and isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array, got a masked array")
    cdef cnp.ndarray a = <cnp.ndarray>array
    cdef int axis
    cdef cnp.npy_intp size = cnp.PyArray_ITEMSIZE(a)
    if cnp.PyArray_TYPE(a) != type_number or not cnp.PyArray_ISNOTSWAPPED(a):
        raise TypeError(f"{name}: unexpected dtype {a.dtype}")
    if cnp.PyArray_NDIM(a) != len(shape) or cnp.PyArray_NDIM(a) == 0:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    for axis in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, axis) != shape[axis]:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
        if cnp.PyArray_STRIDE(a, axis) % size:
            raise ValueError(f"{name}: strides must be multiples of the item size")
    axis = cnp.PyArray_NDIM(a) - 1
    if cnp.PyArray_SIZE(a) > 0 and cnp.PyArray_DIM(a, axis) > 1 and cnp.PyArray_STRIDE(a, axis) != size:
        raise ValueError(f"{name}: the last axis must be contiguous")
    if not cnp.PyArray_ISALIGNED(a):
        raise ValueError(f"{name}: the array must be aligned")
    if writeable and not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError(f"{name}: the array is read-only")
    return a


cdef fastrnn_view_t _view(object array, str name, int type_number, tuple shape, bint writeable):
    """A view of (T, B, n) or (B, n); a null view for None."""
    cdef fastrnn_view_t view = fastrnn_view_t(NULL, 0, 0)
    if array is None:
        return view
    cdef cnp.ndarray a = _array(array, name, type_number, shape, writeable)
    cdef cnp.npy_intp size = cnp.PyArray_ITEMSIZE(a)
    cdef int last = cnp.PyArray_NDIM(a) - 1
    view.data = cnp.PyArray_DATA(a)
    view.stride_b = cnp.PyArray_STRIDE(a, last - 1) // size
    view.stride_t = cnp.PyArray_STRIDE(a, 0) // size if last == 2 else 0
    return view


cdef void no_arrays(fastrnn_arrays_t *arrays) noexcept nogil:
    """All pointers null, all numbers zero: a new field of the struct is never left uninitialised."""
    memset(arrays, 0, sizeof(fastrnn_arrays_t))
    arrays.struct_size = sizeof(fastrnn_arrays_t)


cdef int make_plan(const fastrnn_problem_t *problem, fastrnn_plan_t *plan) except -1:
    cdef int status = fastrnn_make_plan(problem, plan)
    return 0 if status == FASTRNN_OK else raise_status(status)


cdef bint packing_pays(const fastrnn_plan_t *plan, int kind) noexcept:
    return fastrnn_packing_pays(plan, kind)


cdef int run_pass(const fastrnn_plan_t *plan, int kind, const fastrnn_arrays_t *arrays) noexcept nogil:
    return fastrnn_run(plan, kind, arrays)


cdef int run(const fastrnn_plan_t *plan, int passes, const fastrnn_arrays_t *arrays) except -1:
    """One pass, without the GIL."""
    cdef int status
    with nogil:
        status = fastrnn_run(plan, passes, arrays)
    return 0 if status == FASTRNN_OK else raise_status(status)


cdef int run_linear(fastrnn_linear_t *linear, int kind) except -1:
    """One pass of a linear recurrence, without the GIL."""
    cdef int status
    linear.struct_size, linear.interrupted = sizeof(fastrnn_linear_t), <_question>_let_handlers_run
    with nogil:
        status = fastrnn_run_linear(linear, kind)
    return 0 if status == FASTRNN_OK else raise_status(status)


cdef fastrnn_const_view_t _const_view(object array, str name, int type_number, tuple shape):
    cdef fastrnn_view_t view = _view(array, name, type_number, shape, False)
    return fastrnn_const_view_t(view.data, view.stride_t, view.stride_b)


cdef void *_weights(object array, str name, int type_number, tuple shape, bint writeable) except? NULL:
    """The data of a C-contiguous parameter; null for None."""
    if array is None:
        return NULL
    cdef cnp.ndarray a = _array(array, name, type_number, shape, writeable)
    if not cnp.PyArray_IS_C_CONTIGUOUS(a):
        raise ValueError(f"{name}: the array must be C-contiguous")
    return cnp.PyArray_DATA(a)


cdef void *_memory(object array, str name, size_t size, bint writeable) except? NULL:
    """The data of a byte array of at least `size`; null for None."""
    if array is None:
        return NULL
    cdef cnp.ndarray a = _array(array, name, cnp.NPY_UINT8, array.shape if hasattr(array, "shape") else (), writeable)
    if cnp.PyArray_NDIM(a) != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(a) or <size_t>cnp.PyArray_DIM(a, 0) < size:
        raise ValueError(f"{name}: expected at least {size} contiguous bytes, got {array.nbytes}")
    return cnp.PyArray_DATA(a)


cdef int _batch(
    int64_t T, int64_t B, lengths, resets, bint reverse, bint packed, truncation, fastrnn_batch_t *batch
) except -1:
    """The arguments of `Schedules`, checked as far as memory is concerned."""
    cdef cnp.ndarray a
    memset(batch, 0, sizeof(fastrnn_batch_t))
    batch.T, batch.B = T, B
    batch.direction = FASTRNN_FROM_LAST_STEP if reverse else FASTRNN_FROM_FIRST_STEP
    batch.rows = FASTRNN_PACKED if packed else FASTRNN_PADDED
    if lengths is not None:
        a = _array(lengths, "lengths", cnp.NPY_INT64, (B,), False)
        if not cnp.PyArray_IS_C_CONTIGUOUS(a):
            raise ValueError("lengths: the array must be contiguous")
        batch.lengths = <const int64_t *>cnp.PyArray_DATA(a)
    if resets is not None:
        if not isinstance(resets, np.ndarray) or resets.dtype != np.bool_ or resets.shape != (T, B):
            raise ValueError(f"resets: expected booleans of shape {(T, B)}")
        a = resets
        batch.resets = <const unsigned char *>cnp.PyArray_DATA(a)
        batch.resets_stride_t, batch.resets_stride_b = cnp.PyArray_STRIDE(a, 0), cnp.PyArray_STRIDE(a, 1)
    if truncation is not None:
        batch.k1, batch.k2 = truncation
    return 0


cdef class Schedules:
    """The schedules of a batch of sequences, built in memory of their own.

    lengths: int64 (B,); resets: booleans (T, B); truncation: (k1, k2); each may be None. packed: rows as a
    PackedSequence has them. new_bytes: makes the memory, an array of so many bytes; None: NumPy.
    """

    def __init__(self, int64_t T, int64_t B, lengths=None, resets=None, bint reverse=False, bint packed=False,
                 truncation=None, new_bytes=None):
        cdef fastrnn_batch_t batch
        cdef size_t size
        cdef void *data
        cdef int status
        _batch(T, B, lengths, resets, reverse, packed, truncation, &batch)
        status = fastrnn_measure_schedules(&batch, &self.c)
        if status != FASTRNN_OK:
            raise_status(status)
        self.memory = np.empty(self.c.bytes, np.uint8) if new_bytes is None else new_bytes(self.c.bytes)
        data = _memory(self.memory, "memory", 0, True)
        size = cnp.PyArray_DIM(<cnp.ndarray>self.memory, 0)
        with nogil:
            status = fastrnn_build_schedules(&batch, data, size, &self.c)
        if status != FASTRNN_OK:
            raise_status(status)

    @property
    def bytes(self):
        """The memory that is needed at most."""
        return self.c.bytes

    @property
    def grid(self):
        """The first two axes of sequence tensors."""
        return self.c.T, self.c.B

    @property
    def most(self):
        """Steps, sequences and rows of the largest part."""
        return self.c.steps, self.c.sequences, self.c.rows

    @property
    def stage_count(self):
        return self.c.stage_count

    @property
    def d_states(self):
        """Rows of the states' gradients between stages; 0 where no windows overlap."""
        return self.c.d_states

    def stage(self, int64_t n):
        """Stage n: its parts (active, row, first, last, d_first), whether it is whole, and the initial states."""
        if not 0 <= n < self.c.stage_count:
            raise IndexError(f"n: expected a stage below {self.c.stage_count}, got {n}")
        cdef const fastrnn_stage_t *stage = &self.c.stages[n]
        cdef int64_t j
        initial = self._numbers(stage.initial, stage.initial_count) if self.c.d_states else None
        return [self._part(n, j) for j in range(stage.part_count)], self.is_whole(n), initial

    def is_whole(self, int64_t n):
        """Whether stage n computes dx and the gradients of the parameters."""
        return n >= self.c.stage_count - self.c.whole_stages

    def _part(self, int64_t n, int64_t j):
        cdef const fastrnn_schedule_t *part = &self.c.stages[n].parts[j]
        cdef int64_t s, rows = 0, sequences = part.active[0] if part.steps else 0
        for s in range(part.steps):
            rows += part.active[s]
        d_first = None if part.d_first is NULL else self._numbers(part.d_first, sequences)
        return (
            self._numbers(part.active, part.steps), self._numbers(part.row, rows),
            self._numbers(part.first, sequences), self._numbers(part.last, sequences), d_first,
        )  # fmt: skip

    cdef cnp.ndarray _numbers(self, const int64_t *numbers, int64_t n):
        """A view, read-only."""
        cdef cnp.npy_intp size = n
        cdef cnp.ndarray view = cnp.PyArray_SimpleNewFromData(1, &size, cnp.NPY_INT64, <void *>numbers)
        cnp.set_array_base(view, self.memory)
        cnp.PyArray_CLEARFLAGS(view, cnp.NPY_ARRAY_WRITEABLE)
        return view


def schedule_bound(int64_t T, int64_t B, bint has_lengths, bint has_resets, bint packed, truncation):
    """The most bytes that schedules need, and the most steps, sequences and rows of a part, whatever the numbers."""
    cdef fastrnn_batch_t batch
    cdef fastrnn_schedules_t bound
    _batch(T, B, None, None, False, packed, truncation, &batch)
    cdef int64_t length = 0
    cdef unsigned char mark = 0
    batch.lengths = &length if has_lengths else NULL
    batch.resets = &mark if has_resets else NULL
    cdef int status = fastrnn_bound_schedules(&batch, &bound)
    if status != FASTRNN_OK:
        raise_status(status)
    return bound.bytes, (bound.steps, bound.sequences, bound.rows)
cdef class Pace:
    """What earlier calls of a stack of layers have shown about threads: see csrc/fastrnn.h.

    The first layer has memory of its own, and so have the layers above, which are alike. Calls in several threads may
    share a pace.
    """

    def __cinit__(self, int layers=1):
        self.count = 2 if layers > 1 else 1
        self.paces = <fastrnn_pace_t *>calloc(self.count, sizeof(fastrnn_pace_t))
        if not self.paces:
            raise MemoryError

    def __dealloc__(self):
        free(self.paces)

    def __reduce__(self):
        raise TypeError("Pace: it belongs to its process and cannot be pickled")

    cdef fastrnn_pace_t *of_layer(self, int layer) noexcept:
        return self.paces + (1 if layer > 0 and self.count > 1 else 0)


cdef class Problem:
    """One layer in one direction: its cell, sizes, backend, threads and schedule, and its memory sizes.

    `cell` is a name of the registry or a `CellProgram`.
    `schedule` is None (dense) or a tuple (active, row, first, last[, d_first]) of int64 arrays, see csrc/fastrnn.h;
    `states` are the rows of the states, and `d_states`, with d_first, those of their gradients. `cut` is an index into CUTS.
    `pace` belongs to the stack of which the problem is layer number `layer`; None: the cost model alone chooses threads.
    """

    def __cinit__(self, cell, dtype, int backend, int threads, int64_t T, int64_t B, int64_t I, int64_t H,
                  schedule=None, int cut=0, states=None, d_states=None, Pace pace=None, int layer=0):
        self._set_cell(cell)
        self.dtype = np.dtype(dtype)
        self.type_number = _type_number(self.dtype)
        self.c.dtype = FASTRNN_F32 if self.type_number == cnp.NPY_FLOAT32 else FASTRNN_F64
        self.c.backend, self.c.threads = backend, threads
        self.c.cut = cut
        self.pace = pace
        self.c.pace = NULL if pace is None else pace.of_layer(layer)
        self.c.T, self.c.B, self.c.I, self.c.H = T, B, I, H
        self.c.heads = self.row.heads
        if H % self.c.heads:
            raise ValueError(f"H: expected a multiple of heads = {self.c.heads}, got {H}")
        self.c.schedule, self.c.schedules = NULL, NULL
        self.c.interrupted = <_question>_let_handlers_run
        if states is not None and schedule is None:
            raise ValueError("states: expected None without a schedule")
        self.schedule_c.states = B if states is None else states
        self.schedule_c.d_states = self.schedule_c.states if d_states is None else d_states
        if schedule is not None:
            self._set_schedule(schedule)
        elif d_states is not None:
            raise ValueError("d_states: expected None without a schedule")
        make_plan(&self.c, &self.plan)
        self.x_shape, self.y_shape, self.state_shape = (T, B, I), (T, B, H), (self.schedule_c.states, H)
        self.d_state_shape = (self.schedule_c.d_states, H)

    cdef int _set_cell(self, cell) except -1:
        self.cell = cell
        if isinstance(cell, CellProgram):
            self.program = cell
            message = program_error(cell)
            if message is not None:
                raise ValueError(f"program: {message}")
            self.c.program, self.table = &self.program.c, &self.program.table
            self.row = row_of(self.table, cell)
            return 0
        if not isinstance(cell, str):
            raise TypeError(f"cell: expected a name or a CellProgram, got {type(cell).__name__}")
        if cell not in _CELL_INDEX:
            raise ValueError(f"cell: expected one of {sorted(_CELL_INDEX)}, got {cell!r}")
        self.c.cell, self.c.program = _CELL_INDEX[cell], NULL
        self.row, self.table = _ROWS[self.c.cell], fastrnn_cell_table(self.c.cell)
        return 0

    cdef int _set_schedule(self, schedule) except -1:
        cdef cnp.ndarray a
        names = ("active", "row", "first", "last", "d_first")
        kept = tuple(schedule)
        if len(kept) not in (4, 5):
            raise ValueError(f"schedule: expected (active, row, first, last[, d_first]), got {len(kept)} arrays")
        if len(kept) == 5 and kept[4] is None:
            kept = kept[:4]
        for name, array in zip(names, kept):
            shape = array.shape if isinstance(array, cnp.ndarray) else ()
            a = _array(array, f"schedule.{name}", cnp.NPY_INT64, shape, False)
            if cnp.PyArray_NDIM(a) != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(a):
                raise ValueError(f"schedule.{name}: expected a contiguous array of one axis")
        self.kept = tuple(array.copy() for array in kept)
        active, row, first, last = self.kept[:4]
        sequences = int(active[0]) if active.size else 0
        if row.size != int(active.sum()) or any(array.size != sequences for array in self.kept[2:]):
            raise ValueError("schedule: row needs sum(active) entries, first, last and d_first active[0]")
        self.schedule_c.steps = active.size
        self.schedule_c.active = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>active)
        self.schedule_c.row = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>row)
        self.schedule_c.first = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>first)
        self.schedule_c.last = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>last)
        self.schedule_c.d_first = NULL
        if len(self.kept) == 5:
            self.schedule_c.d_first = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>self.kept[4])
        elif self.schedule_c.d_states != self.schedule_c.states:
            raise ValueError("d_states: expected None without schedule.d_first")
        self.c.schedule = &self.schedule_c
        return 0

    @property
    def name(self):
        """The cell's name."""
        return self.cell if self.program is None else self.program.name

    @property
    def backend(self):
        return self.c.backend

    @property
    def packing_pays(self):
        return bool(fastrnn_packing_pays(&self.plan, FASTRNN_FORWARD))

    @property
    def packed_forward(self):
        return self.plan.sizes.packed_forward

    @property
    def packed_backward(self):
        return self.plan.sizes.packed_backward

    @property
    def reserve(self):
        return self.plan.sizes.reserve

    @property
    def scratch_forward(self):
        return self.plan.sizes.scratch_forward

    @property
    def scratch_backward(self):
        return self.plan.sizes.scratch_backward


cdef tuple _of_all(object arrays, str name, int count):
    """A tuple of `count` arrays or None; all None for None."""
    if arrays is None:
        return (None,) * count
    found = tuple(arrays)
    if len(found) != count:
        raise ValueError(f"{name}: expected a tuple of {count}, got {len(found)} members")
    return found


cdef int _parameters(Problem p, object arrays, str name, bint writeable, void **to) except -1:
    """The parameters, or their gradients, in the order of the cell's table."""
    cdef int k
    cdef tuple found = _of_all(arrays, name, p.table.parameter_count)
    for k in range(p.table.parameter_count):
        if found[k] is not None:
            row = p.row.parameters[k]
            to[k] = _weights(found[k], f"{name}.{row.name}", p.type_number, row.shape(p.c.I, p.c.H), writeable)
    return 0


cdef int _states(Problem p, object arrays, str name, tuple shape, bint writeable, fastrnn_view_t *to) except -1:
    """One array for each state."""
    cdef int k
    cdef tuple found = _of_all(arrays, name, p.table.state_count)
    for k in range(p.table.state_count):
        to[k] = _view(found[k], f"{name}.{p.row.states[k]}", p.type_number, shape, writeable)
    return 0


cdef int _const_states(Problem p, object arrays, str name, tuple shape, fastrnn_const_view_t *to) except -1:
    cdef int k
    cdef fastrnn_view_t found[FASTRNN_STATES_MAX]
    _states(p, arrays, name, shape, False, found)
    for k in range(p.table.state_count):
        to[k] = fastrnn_const_view_t(found[k].data, found[k].stride_t, found[k].stride_b)
    return 0


cdef cnp.ndarray _inputs(Problem p, inputs, options, fastrnn_arrays_t *a):
    """The inputs of each step and the options. The call reads the numbers from the array that is returned."""
    cdef const fastrnn_cell_table_t *table = p.table
    cdef cnp.ndarray numbers = np.array(options, np.float64)
    if len(inputs) > FASTRNN_INPUTS_MAX:
        raise ValueError(f"inputs: expected at most {FASTRNN_INPUTS_MAX}, got {len(inputs)}")
    if options and len(options) < table.option_count:
        raise ValueError(f"options: expected {table.option_count} numbers, got {len(options)}")
    for j, given in enumerate(inputs):
        one = j < table.input_count and table.inputs[j].columns == FASTRNN_ONE_COLUMN
        a.inputs[j] = _const_view(given, f"inputs[{j}]", p.type_number, (p.c.T, p.c.B, 1 if one else p.c.H))
    a.options = <const double *>cnp.PyArray_DATA(numbers) if options else NULL
    return numbers


def _pack(Problem p not None, parameters, packed, bint backward):
    cdef fastrnn_arrays_t a
    cdef size_t size = p.plan.sizes.packed_backward if backward else p.plan.sizes.packed_forward
    if parameters is None or packed is None:
        raise TypeError("parameters, packed: expected arrays, got None")
    no_arrays(&a)
    _parameters(p, parameters, "parameters", False, <void **>a.parameters)
    a.packed = _memory(packed, "packed", size, True)
    run(&p.plan, FASTRNN_PACK_BACKWARD if backward else FASTRNN_PACK_FORWARD, &a)


def pack_forward(Problem problem not None, parameters, packed):
    """The parameters, in the order of the cell's table, into the order in which forward reads them."""
    _pack(problem, parameters, packed, False)


def pack_backward(Problem problem not None, parameters, packed):
    """The same in the order in which backward reads them."""
    _pack(problem, parameters, packed, True)


def forward(Problem problem not None, packed, x, initial, y, final, reserve, scratch, states=None, parameters=None,
            inputs=(), options=()):
    """The pass FASTRNN_FORWARD. None stands for a null pointer. Inference if reserve is None.

    initial, final, states: one array or None for each state of the cell, or None for all; states (T, B, H) are those
    after every step. parameters: read if packed is None. inputs: arrays (T, B, H) or (T, B, 1); options: numbers; both
    in the order of the cell's row.
    """
    cdef Problem p = problem
    cdef fastrnn_arrays_t a
    cdef int t = p.type_number
    no_arrays(&a)
    a.packed = _memory(packed, "packed", p.plan.sizes.packed_forward, False)
    _parameters(p, parameters, "parameters", False, <void **>a.parameters)
    a.x = _const_view(x, "x", t, p.x_shape)
    _const_states(p, initial, "initial", p.state_shape, a.initial)
    a.y = _view(y, "y", t, p.y_shape, True)
    _states(p, states, "states", p.y_shape, True, a.states)
    _states(p, final, "final", p.state_shape, True, a.final)
    a.reserve = _memory(reserve, "reserve", p.plan.sizes.reserve, True)
    a.scratch = _memory(scratch, "scratch", p.plan.sizes.scratch_forward, True)
    numbers = _inputs(p, inputs, options, &a)
    run(&p.plan, FASTRNN_FORWARD, &a)


def backward(Problem problem not None, packed, x, initial, y, reserve, dy, d_final, dx, d_initial, gradients, scratch,
             bint overwrite=False, parameters=None, inputs=(), options=(), d_inputs=()):
    """The pass FASTRNN_BACKWARD. None stands for a null pointer: zero for an input, not wanted for an output.

    gradients: of the parameters; they are added to, or overwritten. d_inputs: one array (T, B, H) or None for each input
    of a program. The rest: as for forward.
    """
    cdef int j
    cdef Problem p = problem
    cdef fastrnn_arrays_t a
    cdef int t = p.type_number
    no_arrays(&a)
    a.packed = _memory(packed, "packed", p.plan.sizes.packed_backward, False)
    _parameters(p, parameters, "parameters", False, <void **>a.parameters)
    a.x = _const_view(x, "x", t, p.x_shape)
    _const_states(p, initial, "initial", p.state_shape, a.initial)
    a.y = _view(y, "y", t, p.y_shape, False)
    a.reserve = _memory(reserve, "reserve", p.plan.sizes.reserve, False)
    a.dy = _const_view(dy, "dy", t, p.y_shape)
    _const_states(p, d_final, "d_final", p.d_state_shape, a.d_final)
    a.dx = _view(dx, "dx", t, p.x_shape, True)
    _states(p, d_initial, "d_initial", p.d_state_shape, True, a.d_initial)
    _parameters(p, gradients, "gradients", True, a.gradients)
    a.accumulation = FASTRNN_OVERWRITE if overwrite else FASTRNN_ADD
    for j, gradient in enumerate(_of_all(d_inputs or None, "d_inputs", p.table.input_count)):
        a.d_inputs[j] = _view(gradient, f"d_inputs[{j}]", t, p.y_shape, True)
    a.scratch = _memory(scratch, "scratch", p.plan.sizes.scratch_backward, True)
    numbers = _inputs(p, inputs, options, &a)
    run(&p.plan, FASTRNN_BACKWARD, &a)


cdef class Stepper:
    """A stack of layers that runs one time step at a time, on memory that it allocates at the start.

    problems: those of the layers, with T = 1; packed: their weights; states: one array (layers, B, H) for each state of
    the cell, updated in place. options: numbers, in the order of the cell's row.
    """

    cdef fastrnn_plan_t *plans
    cdef fastrnn_arrays_t *arrays
    cdef PyThread_type_lock lock
    cdef int layers, type_number, forked, input_count
    cdef tuple x_shape
    cdef list outputs
    cdef object kept, y
    cdef tuple states

    def __cinit__(self, problems, packed, tuple states not None, tuple options=()):
        cdef int layer
        cdef cnp.ndarray h = states[0]
        self.forked = fastrnn_is_forked()
        self.lock = PyThread_allocate_lock()
        if not self.lock:
            raise MemoryError
        if h.ndim != 3 or h.shape[0] == 0:
            raise ValueError(f"states: expected shape (layers, B, H), got {(<object>h).shape}")
        self.layers, self.states = <int>h.shape[0], states
        self.outputs = [np.zeros((1, h.shape[1], h.shape[2]), h.dtype) for layer in range(self.layers)]
        self._run_from_now_on(problems, packed, options)
        self.y = self.outputs[self.layers - 1][0]
        self.y.flags.writeable = False

    def _run_from_now_on(self, problems, packed, tuple options=()):
        """From the next step on, use other problems of the same sizes, other weights and options. The states stay."""
        cdef Problem p
        cdef int layer
        cdef size_t scratch_bytes = 0
        problems, packed = tuple(problems), tuple(packed)
        if len(problems) != self.layers or len(packed) != self.layers:
            raise ValueError("problems, packed: expected one for each layer")
        if not all(isinstance(problem, Problem) for problem in problems):
            raise TypeError("problems: expected Problems")
        for p in problems:
            scratch_bytes = max(scratch_bytes, p.plan.sizes.scratch_forward)
            if p.c.T != 1 or p.c.schedule is not NULL or p.table.state_count != len(self.states):
                raise ValueError("problems: expected T = 1, no schedule, and as many states as the cell has")
        p = problems[0]
        if self.kept is not None and p.x_shape[1:] != self.x_shape:
            raise ValueError(f"problems: expected inputs {self.x_shape}, got {p.x_shape[1:]}")
        scratch = np.empty(scratch_bytes, np.uint8)
        numbers = None
        cdef fastrnn_plan_t *new_plans = <fastrnn_plan_t *>calloc(self.layers, sizeof(fastrnn_plan_t))
        cdef fastrnn_arrays_t *new_arrays = <fastrnn_arrays_t *>calloc(self.layers, sizeof(fastrnn_arrays_t))
        try:
            if not new_plans or not new_arrays:
                raise MemoryError
            for layer in range(self.layers):
                self._prepare(layer, problems[layer], packed[layer], &new_plans[layer], &new_arrays[layer])
                numbers = _inputs(problems[layer], (), options, &new_arrays[layer]) if numbers is None else numbers
                new_arrays[layer].options = new_arrays[0].options
                new_arrays[layer].scratch = _memory(scratch, "scratch", scratch_bytes, True)
            self._acquire()
            self.plans, new_plans = new_plans, self.plans
            self.arrays, new_arrays = new_arrays, self.arrays
            p = problems[0]
            self.type_number, self.x_shape = p.type_number, p.x_shape[1:]
            self.input_count = p.table.input_count
            self.kept = (problems, packed, scratch, numbers)
            PyThread_release_lock(self.lock)
        finally:
            free(new_plans)
            free(new_arrays)

    cdef int _prepare(self, int layer, Problem p, packed, fastrnn_plan_t *plan, fastrnn_arrays_t *a) except -1:
        """The arguments of one layer's step, but for scratch and the x of the first layer."""
        cdef int k
        cdef fastrnn_problem_t problem = p.c
        problem.interrupted = NULL  # a step is short and must finish, since the states are updated in place
        make_plan(&problem, plan)
        no_arrays(a)
        a.packed = _memory(packed, "packed", p.plan.sizes.packed_forward, False)
        if layer > 0:
            a.x = _const_view(self.outputs[layer - 1], "x", p.type_number, p.x_shape)
        a.y = _view(self.outputs[layer], "y", p.type_number, p.y_shape, True)
        _states(p, [state[layer] for state in self.states], "states", p.state_shape, True, a.final)
        for k in range(p.table.state_count):
            a.initial[k] = fastrnn_const_view_t(a.final[k].data, 0, a.final[k].stride_b)
        return 0

    def __dealloc__(self):
        free(self.plans)
        free(self.arrays)
        if self.lock:
            PyThread_free_lock(self.lock)

    cdef int _acquire(self) except -1:
        cdef PyThread_type_lock fresh
        if self.forked != fastrnn_is_forked():
            # Another thread of the parent may hold the old lock, and will never release it here.
            fresh = PyThread_allocate_lock()
            if not fresh:
                raise MemoryError
            self.lock, self.forked = fresh, fastrnn_is_forked()
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        return 0

    @property
    def _row(self):
        """The cell's row of the registry."""
        return (<Problem>self.kept[0][0]).row

    @property
    def _state_shape(self):
        """(layers, B, H)"""
        return self.states[0].shape

    @property
    def _dtype(self):
        return self.states[0].dtype

    def __call__(self, x, inputs=None):
        if x is None:
            raise TypeError("x: expected a NumPy array, got NoneType")
        cdef fastrnn_const_view_t view = _const_view(x, "x", self.type_number, self.x_shape)
        given = self._checked_inputs(inputs) if inputs is not None or self.input_count else None
        self._acquire()
        try:
            self.arrays[0].x = view
            if given is not None:
                self._set_inputs(given)
            self._step()
        finally:
            PyThread_release_lock(self.lock)
        return self.y

    cdef int _step(self) except -1:
        """All layers. The caller holds the lock."""
        cdef int layer, status = FASTRNN_OK
        with nogil:
            for layer in range(self.layers):
                status = fastrnn_run(&self.plans[layer], FASTRNN_FORWARD, &self.arrays[layer])
                if status != FASTRNN_OK:
                    break
        if status != FASTRNN_OK:
            raise_status(status)
        return 0

    cdef int _set_inputs(self, list given) except -1:
        """The inputs of this step, of each layer and then of each input: checked arrays (B, H) or (B, 1)."""
        cdef int layer, k, count = self.input_count
        for layer in range(self.layers):
            for k in range(count):
                array = given[layer * count + k]
                self.arrays[layer].inputs[k] = _const_view(array, "inputs", self.type_number, array.shape)
        return 0

    def _checked_inputs(self, inputs):
        """Arrays of each layer and then of each input, from the argument of the call."""
        raise ValueError("inputs: expected None")

    def _copy_states(self):
        self._acquire()
        try:
            return tuple([state.copy() for state in self.states])
        finally:
            PyThread_release_lock(self.lock)

    def _set_states(self, rows, values):
        """Values: one array or number for each state."""
        self._acquire()
        try:
            for state, value in zip(self.states, values, strict=True):
                state[:, rows] = value
        finally:
            PyThread_release_lock(self.lock)

    def _kernel_steps(self, x, int64_t steps):
        """Run the same step many times without Python in between, for benchmarks."""
        cdef int layer, status = FASTRNN_OK
        cdef int64_t step
        cdef fastrnn_const_view_t view = _const_view(x, "x", self.type_number, self.x_shape)
        self._acquire()
        self.arrays[0].x = view
        with nogil:
            for step in range(steps):
                for layer in range(self.layers):
                    status |= fastrnn_run(&self.plans[layer], FASTRNN_FORWARD, &self.arrays[layer])
        PyThread_release_lock(self.lock)
        if status != FASTRNN_OK:
            raise ValueError("x: expected an array")


def is_readable(array, int type_number):
    """Whether the core can read an array of this type number, of any rank except 0, without a copy."""
    return type(array) is cnp.ndarray and usable(array, type_number, cnp.PyArray_NDIM(<cnp.ndarray>array))


cdef bint usable(object array, int type_number, int rank) noexcept:
    """Whether the core can read this array. The caller converts or refuses any other object."""
    if type(array) is not cnp.ndarray:
        return False
    cdef cnp.ndarray a = <cnp.ndarray>array
    cdef cnp.npy_intp size = cnp.PyArray_ITEMSIZE(a)
    cdef int axis
    if cnp.PyArray_TYPE(a) != type_number or cnp.PyArray_NDIM(a) != rank or rank == 0:
        return False
    if not cnp.PyArray_ISNOTSWAPPED(a) or not cnp.PyArray_ISALIGNED(a):
        return False
    for axis in range(rank):
        if cnp.PyArray_DIM(a, axis) == 0 or cnp.PyArray_STRIDE(a, axis) % size:
            return False
    return cnp.PyArray_DIM(a, rank - 1) == 1 or cnp.PyArray_STRIDE(a, rank - 1) == size


# Smaller arrays come from NumPy, since the C library keeps their memory in less time (docs/decisions/0010).
POOLED_BYTES = 256 << 10

cdef size_t SHORT_BYTES = 32 << 10  # comparing less takes under a microsecond, so the GIL is kept


cdef bint equal_bytes(size_t address, cnp.ndarray copy, int threads, Pace pace) except -1:
    """Whether memory of the copy's size equals it; false for no memory. pace may be None."""
    cdef fastrnn_pace_t *paces = NULL if pace is None else pace.paces
    cdef size_t size = cnp.PyArray_NBYTES(copy)
    cdef const void *other = cnp.PyArray_DATA(copy)
    cdef int same
    if not cnp.PyArray_IS_C_CONTIGUOUS(copy):
        raise ValueError("copies: expected contiguous arrays")
    if address == 0:
        return size == 0
    if size < SHORT_BYTES:
        return fastrnn_same_bytes(<const void *>address, other, size, threads, paces)
    with nogil:
        same = fastrnn_same_bytes(<const void *>address, other, size, threads, paces)
    return same


def same_bytes(arrays, copies, int threads, Pace pace=None):
    """Whether every array equals its copy in every bit, read by at most `threads` threads; all are contiguous."""
    cdef cnp.ndarray array, copy
    for array, copy in zip(arrays, copies, strict=True):
        if not cnp.PyArray_IS_C_CONTIGUOUS(array):
            raise ValueError("arrays: expected contiguous arrays")
        if cnp.PyArray_NBYTES(array) != cnp.PyArray_NBYTES(copy):
            return False
        if not equal_bytes(<size_t>cnp.PyArray_DATA(array), copy, threads, pace):
            return False
    return True


_ACTIVATIONS = {
    "tanh": FASTRNN_TANH,
    "sigmoid": FASTRNN_SIGMOID,
    "exp": FASTRNN_EXP,
    "expm1": FASTRNN_EXPM1,
    "log": FASTRNN_LOG,
    "log1p": FASTRNN_LOG1P,
    "softplus": FASTRNN_SOFTPLUS,
    "log_sigmoid": FASTRNN_LOG_SIGMOID,
    "relu": FASTRNN_RELU,
    "abs": FASTRNN_ABS,
    "sign": FASTRNN_SIGN,
    "sqrt": FASTRNN_SQRT,
}


def activate(int backend, str name, array):
    """A function of every element, as the cells of a backend compute it: tanh, sigmoid, exp and others."""
    cdef int activation = _ACTIVATIONS[name]
    cdef int t = _type_number(array.dtype)
    cdef cnp.ndarray x = _array(array, "array", t, array.shape, False)
    if not cnp.PyArray_IS_C_CONTIGUOUS(x):
        raise ValueError("array: the array must be C-contiguous")
    result = array.copy()
    cdef cnp.ndarray y = <cnp.ndarray>result
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef int status, dtype = FASTRNN_F32 if t == cnp.NPY_FLOAT32 else FASTRNN_F64
    with nogil:
        status = fastrnn_activate(backend, dtype, activation, n, cnp.PyArray_DATA(x), cnp.PyArray_DATA(y))
    if status != FASTRNN_OK:
        raise_status(status)
    return result
