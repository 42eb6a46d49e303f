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

TEAMS = "paying", "all", "rows", "units"  # in the order of enum fastrnn_team


class Backend(NamedTuple):
    """An instruction set that the kernels were compiled for."""

    name: str
    runs_here: bool
    has_fma: bool
    vector_length: dict
    hidden: bool
    can_be_hidden: bool


class Cell(NamedTuple):
    """A row of the registry: names of states, and their start values for a sequence without an initial state."""

    gates: int
    states: tuple
    starts: tuple


def cells():
    """The registry: name -> row."""
    cdef const fastrnn_cell_table_t *table
    found = {}
    for j in range(<int>FASTRNN_CELL_COUNT):
        table = fastrnn_cell_table(j)
        states = tuple([table.states[k].name.decode() for k in range(table.state_count)])
        starts = tuple([table.states[k].start for k in range(table.state_count)])
        found[table.name.decode()] = Cell(table.gates, states, starts)
    return found


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
cdef list _STARTS = [cell.starts for cell in cells().values()]


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


cdef bint packing_pays(const fastrnn_plan_t *plan) noexcept:
    return fastrnn_packing_pays(plan)


cdef int run_pass(const fastrnn_plan_t *plan, int kind, const fastrnn_arrays_t *arrays) noexcept nogil:
    return fastrnn_run(plan, kind, arrays)


cdef int run(const fastrnn_plan_t *plan, int passes, const fastrnn_arrays_t *arrays) except -1:
    """One pass, without the GIL."""
    cdef int status
    with nogil:
        status = fastrnn_run(plan, passes, arrays)
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


cdef class Problem:
    """One layer in one direction: its cell, sizes, backend, threads and schedule, and its memory sizes.

    `schedule` is None (dense) or a tuple (active, row, first, last[, d_first]) of int64 arrays, see csrc/fastrnn.h;
    `states` is the number of rows of the states, and `d_states`, with d_first, that of their gradients. A call takes as
    many threads as make it faster. For tests, `team`, an index into TEAMS, overrides this.
    """

    def __cinit__(self, str cell, dtype, int backend, int threads, int64_t T, int64_t B, int64_t I, int64_t H,
                  schedule=None, int team=0, states=None, d_states=None):
        if cell not in _CELL_INDEX:
            raise ValueError(f"cell: expected one of {sorted(_CELL_INDEX)}, got {cell!r}")
        self.dtype = np.dtype(dtype)
        self.type_number = _type_number(self.dtype)
        self.c.cell = _CELL_INDEX[cell]
        self.c.dtype = FASTRNN_F32 if self.type_number == cnp.NPY_FLOAT32 else FASTRNN_F64
        self.c.backend, self.c.threads = backend, threads
        self.c.team = team
        self.c.T, self.c.B, self.c.I, self.c.H = T, B, I, H
        self.gates = fastrnn_cell_table(self.c.cell).gates
        self.state_count = fastrnn_cell_table(self.c.cell).state_count
        self.output = fastrnn_cell_table(self.c.cell).output
        self.starts = _STARTS[self.c.cell]
        self.has_c = self.state_count == 2
        self.c.schedule = NULL
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
        self.w_ih_shape, self.w_hh_shape = (self.gates * H, I), (self.gates * H, H)
        self.b_shape = (self.gates * H,)

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
    def backend(self):
        return self.c.backend

    @property
    def states(self):
        return self.state_count

    @property
    def packing_pays(self):
        return bool(fastrnn_packing_pays(&self.plan))

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


cdef int _parameters(Problem p, w_ih, w_hh, b_ih, b_hh, fastrnn_arrays_t *a) except -1:
    """The parameters in torch's layout."""
    cdef int t = p.type_number
    a.parameters[FASTRNN_W_IH] = _weights(w_ih, "w_ih", t, p.w_ih_shape, False)
    a.parameters[FASTRNN_W_HH] = _weights(w_hh, "w_hh", t, p.w_hh_shape, False)
    a.parameters[FASTRNN_B_IH] = _weights(b_ih, "b_ih", t, p.b_shape, False)
    a.parameters[FASTRNN_B_HH] = _weights(b_hh, "b_hh", t, p.b_shape, False)
    return 0


def _pack(Problem p not None, w_ih, w_hh, b_ih, b_hh, packed, bint backward):
    cdef fastrnn_arrays_t a
    cdef size_t size = p.plan.sizes.packed_backward if backward else p.plan.sizes.packed_forward
    if w_ih is None or w_hh is None or packed is None:
        raise TypeError("w_ih, w_hh, packed: expected arrays, got None")
    no_arrays(&a)
    _parameters(p, w_ih, w_hh, b_ih, b_hh, &a)
    a.packed = _memory(packed, "packed", size, True)
    run(&p.plan, FASTRNN_PACK_BACKWARD if backward else FASTRNN_PACK_FORWARD, &a)


def pack_forward(Problem problem not None, w_ih, w_hh, b_ih, b_hh, packed):
    """Pack weights in torch's layout for forward."""
    _pack(problem, w_ih, w_hh, b_ih, b_hh, packed, False)


def pack_backward(Problem problem not None, w_ih, w_hh, b_ih, b_hh, packed):
    """Pack weights in torch's layout for backward."""
    _pack(problem, w_ih, w_hh, b_ih, b_hh, packed, True)


def forward(Problem problem not None, packed, x, h0, c0, y, h_n, c_n, reserve, scratch, c=None, weights=(None,) * 4):
    """Forward; None means a null pointer. It is inference if reserve is None; c (T, B, H) is c after every step.

    weights: (w_ih, w_hh, b_ih, b_hh), which are read if packed is None.
    """
    cdef Problem p = problem
    cdef fastrnn_arrays_t a
    cdef int t = p.type_number
    if not p.has_c and (c0 is not None or c_n is not None or c is not None):
        raise ValueError("c0, c_n, c: this cell has no c")
    no_arrays(&a)
    a.packed = _memory(packed, "packed", p.plan.sizes.packed_forward, False)
    w_ih, w_hh, b_ih, b_hh = weights
    _parameters(p, w_ih, w_hh, b_ih, b_hh, &a)
    a.x = _const_view(x, "x", t, p.x_shape)
    a.initial[0] = _const_view(h0, "h0", t, p.state_shape)
    a.initial[1] = _const_view(c0, "c0", t, p.state_shape)
    a.y = _view(y, "y", t, p.y_shape, True)
    a.states[1] = _view(c, "c", t, p.y_shape, True)
    a.final[0] = _view(h_n, "h_n", t, p.state_shape, True)
    a.final[1] = _view(c_n, "c_n", t, p.state_shape, True)
    a.reserve = _memory(reserve, "reserve", p.plan.sizes.reserve, True)
    a.scratch = _memory(scratch, "scratch", p.plan.sizes.scratch_forward, True)
    run(&p.plan, FASTRNN_FORWARD, &a)


def backward(Problem problem not None, packed, x, h0, c0, y, reserve, dy, dh_n, dc_n, dx, dh0, dc0,
             dw_ih, dw_hh, db_ih, db_hh, scratch, bint overwrite=False, weights=(None,) * 4):
    """Backward; None means a null pointer: zero for an input, not wanted for an output.

    It adds to the gradients of weights, or overwrites them. weights: as for forward.
    """
    cdef Problem p = problem
    cdef fastrnn_arrays_t a
    cdef int t = p.type_number
    if not p.has_c and (c0 is not None or dc_n is not None or dc0 is not None):
        raise ValueError("c0, dc_n, dc0: this cell has no c")
    no_arrays(&a)
    a.packed = _memory(packed, "packed", p.plan.sizes.packed_backward, False)
    w_ih, w_hh, b_ih, b_hh = weights
    _parameters(p, w_ih, w_hh, b_ih, b_hh, &a)
    a.x = _const_view(x, "x", t, p.x_shape)
    a.initial[0] = _const_view(h0, "h0", t, p.state_shape)
    a.initial[1] = _const_view(c0, "c0", t, p.state_shape)
    a.y = _view(y, "y", t, p.y_shape, False)
    a.reserve = _memory(reserve, "reserve", p.plan.sizes.reserve, False)
    a.dy = _const_view(dy, "dy", t, p.y_shape)
    a.d_final[0] = _const_view(dh_n, "dh_n", t, p.d_state_shape)
    a.d_final[1] = _const_view(dc_n, "dc_n", t, p.d_state_shape)
    a.dx = _view(dx, "dx", t, p.x_shape, True)
    a.d_initial[0] = _view(dh0, "dh0", t, p.d_state_shape, True)
    a.d_initial[1] = _view(dc0, "dc0", t, p.d_state_shape, True)
    a.gradients[FASTRNN_W_IH] = _weights(dw_ih, "dw_ih", t, p.w_ih_shape, True)
    a.gradients[FASTRNN_W_HH] = _weights(dw_hh, "dw_hh", t, p.w_hh_shape, True)
    a.gradients[FASTRNN_B_IH] = _weights(db_ih, "db_ih", t, p.b_shape, True)
    a.gradients[FASTRNN_B_HH] = _weights(db_hh, "db_hh", t, p.b_shape, True)
    a.accumulation = FASTRNN_OVERWRITE if overwrite else FASTRNN_ADD
    a.scratch = _memory(scratch, "scratch", p.plan.sizes.scratch_backward, True)
    run(&p.plan, FASTRNN_BACKWARD, &a)


cdef class Stepper:
    """A stack of layers that runs one time step at a time, on memory that it allocates at the start.

    problems: the problems of the layers, with T = 1; packed: their weights; h and c (layers, B, H): the states, which
    are updated in place; c is None for cells without c.
    """

    cdef fastrnn_plan_t *plans
    cdef fastrnn_arrays_t *arrays
    cdef PyThread_type_lock lock
    cdef int layers, type_number, forked
    cdef tuple x_shape
    cdef list outputs
    cdef object kept, y
    cdef cnp.ndarray h, c

    def __cinit__(self, problems, packed, cnp.ndarray h not None, cnp.ndarray c):
        cdef int layer
        self.forked = fastrnn_is_forked()
        self.lock = PyThread_allocate_lock()
        if not self.lock:
            raise MemoryError
        if h.ndim != 3 or h.shape[0] == 0:
            raise ValueError(f"h: expected shape (layers, B, H), got {(<object>h).shape}")
        self.layers, self.h, self.c = <int>h.shape[0], h, c
        self.outputs = [np.zeros((1, h.shape[1], h.shape[2]), h.dtype) for layer in range(self.layers)]
        self._run_from_now_on(problems, packed)
        self.y = self.outputs[self.layers - 1][0]
        self.y.flags.writeable = False

    def _run_from_now_on(self, problems, packed):
        """From the next step on, use other problems of the same sizes and other weights. The states stay."""
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
            if p.c.T != 1 or p.c.schedule is not NULL or p.has_c != (self.c is not None):
                raise ValueError("problems: expected T = 1, no schedule, and c for cells that have it")
        p = problems[0]
        if self.kept is not None and p.x_shape[1:] != self.x_shape:
            raise ValueError(f"problems: expected inputs {self.x_shape}, got {p.x_shape[1:]}")
        scratch = np.empty(scratch_bytes, np.uint8)
        cdef fastrnn_plan_t *new_plans = <fastrnn_plan_t *>calloc(self.layers, sizeof(fastrnn_plan_t))
        cdef fastrnn_arrays_t *new_arrays = <fastrnn_arrays_t *>calloc(self.layers, sizeof(fastrnn_arrays_t))
        try:
            if not new_plans or not new_arrays:
                raise MemoryError
            for layer in range(self.layers):
                self._prepare(layer, problems[layer], packed[layer], &new_plans[layer], &new_arrays[layer])
                new_arrays[layer].scratch = _memory(scratch, "scratch", scratch_bytes, True)
            self._acquire()
            self.plans, new_plans = new_plans, self.plans
            self.arrays, new_arrays = new_arrays, self.arrays
            p = problems[0]
            self.type_number, self.x_shape = p.type_number, p.x_shape[1:]
            self.kept = (problems, packed, scratch)
            PyThread_release_lock(self.lock)
        finally:
            free(new_plans)
            free(new_arrays)

    cdef int _prepare(self, int layer, Problem p, packed, fastrnn_plan_t *plan, fastrnn_arrays_t *a) except -1:
        """Fill the arguments of one layer's step, except scratch and the x of the first layer."""
        cdef fastrnn_problem_t problem = p.c
        problem.interrupted = NULL  # a step is short and must finish, since the states are updated in place
        make_plan(&problem, plan)
        no_arrays(a)
        a.packed = _memory(packed, "packed", p.plan.sizes.packed_forward, False)
        if layer > 0:
            a.x = _const_view(self.outputs[layer - 1], "x", p.type_number, p.x_shape)
        a.y = _view(self.outputs[layer], "y", p.type_number, p.y_shape, True)
        a.final[0] = _view(self.h[layer], "h", p.type_number, p.state_shape, True)
        a.initial[0] = fastrnn_const_view_t(a.final[0].data, 0, a.final[0].stride_b)
        if p.has_c:
            a.final[1] = _view(self.c[layer], "c", p.type_number, p.state_shape, True)
            a.initial[1] = fastrnn_const_view_t(a.final[1].data, 0, a.final[1].stride_b)
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
    def has_c(self):
        """Whether the state is a pair (h, c)."""
        return self.c is not None

    @property
    def _state_shape(self):
        """(layers, B, H)"""
        return self.h.shape[0], self.h.shape[1], self.h.shape[2]

    @property
    def _dtype(self):
        return self.h.dtype

    def __call__(self, x):
        cdef int layer, status = FASTRNN_OK
        if x is None:
            raise TypeError("x: expected a NumPy array, got NoneType")
        cdef fastrnn_const_view_t view = _const_view(x, "x", self.type_number, self.x_shape)
        self._acquire()
        self.arrays[0].x = view
        with nogil:
            for layer in range(self.layers):
                status = fastrnn_run(&self.plans[layer], FASTRNN_FORWARD, &self.arrays[layer])
                if status != FASTRNN_OK:
                    break
        PyThread_release_lock(self.lock)
        if status != FASTRNN_OK:
            raise_status(status)
        return self.y

    def _copy_states(self):
        self._acquire()
        try:
            return self.h.copy(), None if self.c is None else self.c.copy()
        finally:
            PyThread_release_lock(self.lock)

    def _set_states(self, rows, h, c=0):
        self._acquire()
        try:
            self.h[:, rows] = h
            if self.c is not None:
                self.c[:, rows] = c
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


cdef bint equal_bytes(size_t address, cnp.ndarray copy, int threads) except -1:
    """Whether memory of the copy's size equals the copy; false for a null pointer."""
    cdef size_t size = cnp.PyArray_NBYTES(copy)
    cdef const void *other = cnp.PyArray_DATA(copy)
    cdef int same
    if not cnp.PyArray_IS_C_CONTIGUOUS(copy):
        raise ValueError("copies: expected contiguous arrays")
    if address == 0:
        return size == 0
    if size < SHORT_BYTES:
        return fastrnn_same_bytes(<const void *>address, other, size, threads)
    with nogil:
        same = fastrnn_same_bytes(<const void *>address, other, size, threads)
    return same


def same_bytes(arrays, copies, int threads):
    """Whether every array equals its copy in every bit. At most `threads` threads read; all arrays are contiguous."""
    cdef cnp.ndarray array, copy
    for array, copy in zip(arrays, copies, strict=True):
        if not cnp.PyArray_IS_C_CONTIGUOUS(array):
            raise ValueError("arrays: expected contiguous arrays")
        if cnp.PyArray_NBYTES(array) != cnp.PyArray_NBYTES(copy):
            return False
        if not equal_bytes(<size_t>cnp.PyArray_DATA(array), copy, threads):
            return False
    return True


def activate(int backend, str name, array):
    """tanh or sigmoid of every element, as in the cells of a backend."""
    cdef int activation = {"tanh": FASTRNN_TANH, "sigmoid": FASTRNN_SIGMOID}[name]
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
