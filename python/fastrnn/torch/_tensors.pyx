# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""torch's tensors as the arrays of a plan, found through their Python methods, and inference calls that repeat one.

``Tensor.numpy()`` forbids torch to resize the tensor's storage, for good; FSDP and ``resize_`` need that. So addresses
are asked for. They are of use during a call alone, since torch may resize a storage between two calls.
"""

import math

import numpy as np
import torch

from .. import memory
from .._plan import tape_of

cimport numpy as cnp
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t
from libc.string cimport memset

from .._core cimport Pace, equal_bytes, fastrnn_view_t
from .._plan cimport STATES, Arrays, Plan, StateView, Tape

cdef extern from *:
    """
    #include <stddef.h>
    #ifdef __linux__
    #include <stdint.h>
    #include <sys/mman.h>
    #endif
    static void fastrnn_ask_for_huge_pages(void *begin, size_t size) {
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
        const uintptr_t page = 65536; /* a multiple of every machine's */
        const uintptr_t first = ((uintptr_t)begin + page - 1) & ~(page - 1);
        const uintptr_t end = ((uintptr_t)begin + size) & ~(page - 1);
        if (end > first) {
            (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
        }
    #else
        (void)begin, (void)size;
    #endif
    }
    """
    void _ask_for_huge_pages "fastrnn_ask_for_huge_pages"(void *, size_t) nogil

cnp.import_array()

cdef enum:
    REPEATS_MAX = 8
cdef object _CONTIGUOUS = torch.contiguous_format
cdef object _TENSOR = torch.Tensor
cdef enum:
    EACH = 4  # parameters of a layer and direction; an absent one is None

cdef size_t POOLED_BYTES_MIN = memory.POOLED_BYTES_MIN
# From here on the C library maps fresh pages for every allocation (glibc's largest M_MMAP_THRESHOLD).
cdef size_t FRESH_BYTES_MIN = 32 << 20
# Addresses of allocations lie above, except on a few platforms, where `address_of` looks twice.
cdef size_t LOW_ADDRESSES = <size_t>1 << 40


cdef size_t address_of(object tensor) except? 0:
    """Of a tensor's first number; 0 if its storage holds no memory: then torch gives the offset of a view."""
    cdef size_t address = tensor.data_ptr()
    if address < LOW_ADDRESSES and address != 0 and tensor.untyped_storage().nbytes() == 0:
        return 0
    return address


cdef object _tensor_like(object empty_like, object outline, size_t size, void **address):
    """A new tensor of `size` bytes and where it lies. outline: a tensor without memory of the same shape and dtype."""
    tensor = empty_like(outline)
    address[0] = <void *><size_t>tensor.data_ptr()
    if size >= FRESH_BYTES_MIN:
        _ask_for_huge_pages(address[0], size)
    return tensor


def array_on(tensor, dtype):
    """An array on the memory of a dense tensor with the same shape and strides. It keeps the tensor alive."""
    cdef cnp.npy_intp dims[32]
    cdef cnp.npy_intp steps[32]
    cdef cnp.npy_intp size = (<cnp.dtype?>dtype).itemsize, count = 1
    cdef int axis, rank
    cdef bint is_contiguous = tensor.is_contiguous()
    cdef size_t address
    shape = tensor.shape
    rank = len(shape)
    if rank > 32:
        raise ValueError(f"tensor: expected at most 32 axes, got {rank}")
    strides = None if is_contiguous else tensor.stride()
    for axis in range(rank):
        dims[axis] = shape[axis]
        count *= dims[axis]
        if not is_contiguous:
            steps[axis] = <cnp.npy_intp>strides[axis] * size
    if count == 0:
        return np.empty(shape, dtype)
    address = address_of(tensor)
    if address == 0:
        raise RuntimeError("tensor: its storage was resized to 0 bytes and holds no memory")
    array = cnp.PyArray_New(
        np.ndarray, rank, dims, (<cnp.dtype>dtype).type_num, NULL if is_contiguous else steps, <void *>address, 0,
        cnp.NPY_ARRAY_CARRAY, None,
    )  # fmt: skip
    cnp.set_array_base(array, tensor)
    return array


def same_bytes(tensors, copies, int threads, Pace pace):
    """Whether every tensor equals its copy, an array, in every bit; all are contiguous. pace: that of the module."""
    for tensor, copy in zip(tensors, copies, strict=True):
        if tensor.nbytes != copy.nbytes or not equal_bytes(address_of(tensor), <cnp.ndarray?>copy, threads, pace):
            return False
    return True


cdef class TensorArrays(Arrays):
    """Tensors of a call with these sizes, and arrays.

    outlines: of the output, None if nobody reads it, and of a final state, see `_tensor_like`; names: torch.empty_like,
    torch.from_numpy and an outline of 0 bytes; grid, B, H: rows of sequences, batch and hidden size; saves: whether the
    cell has a reserve.
    """

    cdef object y_outline, state_outline, empty_like, from_numpy, no_bytes
    cdef size_t y_bytes, state_bytes
    cdef int64_t rows, width, B, H
    cdef bint saves

    def __init__(self, kind, dtype, outlines, names, grid, int64_t B, int64_t H, bint saves):
        self.saves = saves
        self.y_outline, self.state_outline = outlines
        self.empty_like, self.from_numpy, self.no_bytes = names
        self.rows, self.width = grid
        self.B, self.H = B, H
        self.y_bytes = 0 if self.y_outline is None else self.y_outline.numel() * self.item
        self.state_bytes = self.state_outline.numel() * self.item

    cdef void *address(self, object a) except? NULL:
        cdef size_t found
        if a is None:
            return NULL
        if type(a) is cnp.ndarray:
            return cnp.PyArray_DATA(<cnp.ndarray>a)
        found = address_of(a)
        if found == 0 and a.numel() > 0:
            raise RuntimeError("tensor: its storage was resized to 0 bytes and holds no memory")
        return <void *>found

    cdef fastrnn_view_t contiguous_sequence(self, void *data, ptrdiff_t n) noexcept:
        cdef fastrnn_view_t view = fastrnn_view_t(data, 0, 0)
        if self.t_axis >= 0:
            view.stride_t = n if self.b_axis < self.t_axis else self.width * n
        if self.b_axis >= 0:
            view.stride_b = self.rows * n if 0 <= self.t_axis and self.b_axis < self.t_axis else n
        return view

    cdef fastrnn_view_t sequence(self, object a) except *:
        cdef fastrnn_view_t view
        if a is None or type(a) is cnp.ndarray:
            return Arrays.sequence(self, a)
        if a.is_contiguous():
            return self.contiguous_sequence(self.address(a), a.size(-1))
        view = fastrnn_view_t(self.address(a), 0, 0)
        strides = a.stride()
        if self.t_axis >= 0:
            view.stride_t = strides[self.t_axis]
        if self.b_axis >= 0:
            view.stride_b = strides[self.b_axis]
        return view

    cdef StateView contiguous_states(self, void *data) noexcept:
        return StateView(<char *>data, self.B * self.H * self.item if self.j_axis >= 0 else 0, self.H)

    cdef StateView states_view(self, object a) except *:
        cdef StateView view
        if a is None or type(a) is cnp.ndarray:
            return Arrays.states_view(self, a)
        if a.is_contiguous():
            return self.contiguous_states(self.address(a))
        view = StateView(<char *>self.address(a), 0, 0)
        strides = a.stride()
        if self.j_axis >= 0:
            view.step = <ptrdiff_t>strides[self.j_axis] * self.item
        if self.state_b_axis >= 0:
            view.stride_b = strides[self.state_b_axis]
        return view

    cdef cnp.ndarray new_gradient(self, object parameter):
        """An array of a parameter's shape."""
        cdef cnp.npy_intp dims[2]
        cdef int rank = parameter.dim()
        dims[0] = parameter.size(0)
        if rank > 1:
            dims[1] = parameter.size(1)
        return self.new_array(rank, dims)

    cdef object new_bytes(self, size_t size):
        if size >= POOLED_BYTES_MIN:  # on a page of its own
            return self.from_numpy(memory.empty((size,), memory.BYTES))
        return self.no_bytes.new_empty(size)

    cdef object new_sequence(self, int64_t T, int64_t B, int64_t n, bint zero, fastrnn_view_t *view):
        cdef void *data
        if self.y_outline is None:
            return Arrays.new_sequence(self, T, B, n, zero, view)
        tensor = _tensor_like(self.empty_like, self.y_outline, self.y_bytes, &data)
        if zero and self.y_bytes:
            memset(data, 0, self.y_bytes)
        view[0] = self.contiguous_sequence(data, n)
        return tensor

    cdef object new_states(self, int64_t count, int64_t B, int64_t H, StateView *view):
        cdef void *data
        tensor = _tensor_like(self.empty_like, self.state_outline, self.state_bytes, &data)
        view[0] = self.contiguous_states(data)
        return tensor

    def copy_of_states(self, a):
        return a.clone(memory_format=_CONTIGUOUS)

    def inside(self, a):
        a = a if type(a) is cnp.ndarray else array_on(a, self.dtype)
        if a.ndim == 2 and self.t_axis >= 0 and self.b_axis >= 0:  # rows of a dense batch
            return a.reshape(self.rows, self.width, -1)
        return Arrays.inside(self, a)

    def states_inside(self, a):
        return Arrays.states_inside(self, a if a is None or type(a) is cnp.ndarray else array_on(a, self.dtype))


cdef void *plain_address(object tensor, object dtype, object shape, size_t item) except? NULL:
    """Of a plain tensor of this shape, if one is given; null for another."""
    cdef size_t address
    if type(tensor) is not _TENSOR or tensor.dtype is not dtype or not tensor.is_cpu:
        return NULL
    if (shape is not None and tensor.shape != shape) or tensor.is_neg():
        return NULL
    address = address_of(tensor)
    return NULL if address % item else <void *>address


cdef object readable(object tensor):
    """The tensor itself if the core reads it, else a contiguous copy; None for None."""
    if tensor is None:
        return None
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if tensor.data_ptr() % tensor.element_size():
        return tensor.clone(memory_format=_CONTIGUOUS)
    return tensor if tensor.is_contiguous() or tensor.stride(-1) == 1 else tensor.contiguous()


cdef list parameters_of(object weights, int count):
    """EACH of each layer and direction as the core reads them, None for an absent bias."""
    cdef list found = []
    cdef int j, each = len(weights) // count
    if each not in (2, EACH) or each * count != len(weights):
        raise ValueError(f"weights: expected two or four for each layer and direction, got {len(weights)}")
    for j in range(each * count):
        weight = weights[j]
        found.append(weight if weight.is_contiguous() and not weight.is_neg() else weight.contiguous().resolve_neg())
        if each == 2 and j % 2 == 1:
            found.append(None)
            found.append(None)
    return found


cdef list applied_masks(object masks):
    """Of each layer's input, as arrays; None without dropout."""
    return None if masks is None else [None, *masks]


def forward(
    Plan plan not None, TensorArrays arrays not None, x, states, weights, packed, masks, starting, bint training=True
):
    """(outputs, kept): y and the final states, and what backward needs.

    weights: two or four tensors of each layer and direction; packed: the same as forward streams them, or None; masks:
    arrays, of the input of each layer but the first, or None; starting: the sequences that ignore their initial state.
    """
    cdef int k, layer
    cdef Tape tape
    cdef list kept = []
    cdef tuple initial = tuple([readable(states[k]) for k in range(plan.states)])
    cdef list parameters = parameters_of(weights, plan.layers * plan.directions)
    y, final, found = plan.forward(
        arrays, readable(x), initial, parameters, packed, None, applied_masks(masks), None, None, training, False, starting
    )  # fmt: skip
    if not training:
        return (y, *final), kept
    tape = found
    if arrays.saves:
        kept = [arrays.new_bytes(0) if one is None else one for one in tape.kept]
    for layer in range(plan.layers - 1):
        kept.append(tape.outputs[layer])
        if masks is not None and masks[layer] is not None:
            kept.append(tape.inputs[layer + 1])
    return (y, *final), kept


def infer(Plan plan not None, TensorArrays arrays not None, x, states, weights, list packed, masks, starting):
    """y and the final states; packed None: the weights are packed if that pays."""
    cdef int k
    cdef tuple initial = tuple([readable(states[k]) for k in range(plan.states)])
    cdef list parameters = None if packed is not None else parameters_of(weights, plan.layers * plan.directions)
    y, final, _ = plan.forward(
        arrays, readable(x), initial, parameters, packed, None, applied_masks(masks), None, None, False, False, starting
    )  # fmt: skip
    return (y, *final)


def backward(
    Plan plan not None, TensorArrays arrays not None, y, x, states, weights, masks, starting, kept, d, wanted, truncation
):
    """The gradients of x, two states and the weights, None where not wanted.

    kept: what forward returned; d: of y and the final states, None standing for zero; wanted: for each gradient.
    """
    cdef int count = plan.layers * plan.directions, each = len(weights) // count, j, k, layer, at
    cdef list parameters = parameters_of(weights, count), into = [None] * (EACH * count), found = []
    cdef list inputs = [readable(x)], outputs = [], reserves = [None] * count
    cdef tuple initial = tuple([readable(states[k]) for k in range(plan.states)])
    cdef tuple d_final = tuple([readable(d[1 + k]) for k in range(plan.states)])
    cdef bint wants_states = False
    at = 0
    if arrays.saves:
        reserves, at = list(kept[:count]), count
    for layer in range(plan.layers - 1):
        outputs.append(kept[at])
        at += 1
        if masks is not None and masks[layer] is not None:
            inputs.append(kept[at])
            at += 1
        else:
            inputs.append(outputs[layer])
    outputs.append(readable(y))
    for j in range(count):
        for k in range(each):
            if wanted[3 + j * each + k]:
                into[j * EACH + k] = arrays.new_gradient(parameters[j * EACH + k])
    for k in range(plan.states):
        wants_states = wants_states or wanted[1 + k]
    tape = tape_of(plan, arrays, initial, parameters, inputs, outputs, reserves, applied_masks(masks), starting)
    dx, d_initial = plan.backward(tape, readable(d[0]), d_final, into, truncation, None, wanted[0], wants_states)
    if dx is not None and (<cnp.ndarray>dx).ndim != x.dim():
        dx = dx.reshape(tuple(x.shape))
    found.append(None if dx is None else arrays.from_numpy(dx))
    for k in range(2):
        is_there = k < plan.states and wanted[1 + k]
        found.append(arrays.from_numpy((<tuple>d_initial)[k]) if is_there else None)
    for j in range(count):
        for k in range(each):
            gradient = into[j * EACH + k]
            found.append(None if gradient is None else arrays.from_numpy(gradient))
    return found


cdef class Repeat:
    """A dense inference call of a stack that is like one made before.

    A short call takes less time than the Python around it. So everything that such a call needs is kept: its plan,
    packed weights, and what they were packed from. A call compares (what tensors are, the bytes of the parameters, the
    thread's state) and runs the plan, or returns None: then something is different. Where packing does not pay, the call
    reads the parameters themselves, and compares no bytes.

    configuration: attributes of the module, by name, which must be as they were. packed: None where packing does not
    pay. parameters: their names; those tensors, None for an absent one; contiguous tensors on their memory; arrays of the
    contents of the present ones when they were packed, or None. shapes: of the input and of a state. returns_y: a cell
    returns its state alone. thread: functions that must return false, a function of the device, and torch's module
    of forward-mode differentiation; settings: a function, and its result.
    """

    cdef Plan plan
    cdef TensorArrays arrays
    cdef list packed, parameters
    cdef tuple attributes, values, names, weights, aliases, copies, thread
    cdef object dtype, x_shape, state_shape, settings, setting, autocast, dual
    cdef bint returns_y

    def __init__(
        self, configuration, Plan plan not None, TensorArrays arrays not None, list packed, parameters, shapes,
        dtype, bint returns_y, thread, settings,
    ):  # fmt: skip
        cdef int count = plan.layers * plan.directions
        self.attributes, self.values = tuple(configuration), tuple(configuration.values())
        self.plan, self.arrays, self.packed = plan, arrays, packed
        self.names, self.weights, self.aliases, self.copies = parameters
        self.x_shape, self.state_shape = shapes
        self.dtype = dtype
        self.returns_y = returns_y
        (self.thread, self.autocast, self.dual), self.settings = thread, settings
        self.setting = settings()
        if not plan.is_dense or (packed is None and plan.packs) or (packed is not None and len(packed) != count):
            raise ValueError("plan: expected a dense one, and packed weights for each layer and direction")
        if arrays.rows != plan.rows or arrays.width != plan.width or arrays.B != plan.B or arrays.H != plan.H:
            raise ValueError("arrays: expected those of the plan")
        if math.prod(self.x_shape) != plan.rows * plan.width * plan.I:
            raise ValueError("shapes: expected those of the plan")
        if math.prod(self.state_shape) != count * plan.B * plan.H:
            raise ValueError("shapes: expected those of the plan")
        for j, one in enumerate(packed or ()):
            if one.nbytes < plan.packed_bytes(j // plan.directions):
                raise ValueError("packed: expected weights of the plan")
        if packed is None:
            self.parameters = parameters_of([one for one in self.aliases if one is not None], count)
            plan.check_parameters(self.parameters)

    cdef bint _is_current(self, dict attributes) except -1:
        cdef Py_ssize_t j
        cdef Py_ssize_t copy = 0
        cdef int threads = self.setting[1]
        parameters = attributes["_parameters"]
        if not isinstance(parameters, dict):  # torch before 2.5 has an OrderedDict
            return False
        for j in range(len(self.attributes)):
            value = attributes.get(self.attributes[j])
            if value is not self.values[j] and value != self.values[j]:
                return False
        for j in range(len(self.names)):
            weight = self.weights[j]
            if (<dict>parameters).get(self.names[j]) is not weight:
                return False
            if weight is None:
                continue
            if not weight.is_set_to(self.aliases[j]):
                return False
            if self.packed is not None:
                if not equal_bytes(address_of(weight), <cnp.ndarray>self.copies[copy], threads, self.plan.like.pace):
                    return False
                copy += 1
        return True

    cdef bint _find_sequence(self, object x, fastrnn_view_t *view) except -1:
        """The view of x, which has the call's shape; false if something is different."""
        cdef void *data = plain_address(x, self.dtype, None, self.arrays.item)
        if data is NULL:
            return False
        if x.is_contiguous():
            view[0] = self.arrays.contiguous_sequence(data, self.plan.I)
            return True
        if x.stride(-1) != 1:
            return False
        view[0] = self.arrays.sequence(x)
        return True

    cdef bint _find_states(self, object hx, StateView *views) except -1:
        """The views of the states; false if something is different."""
        cdef tuple states
        cdef void *data
        cdef int k
        if hx is None:
            for k in range(self.plan.states):
                views[k] = StateView(NULL, 0, 0)
            return True
        if self.plan.states == 1:
            states = (hx,)
        elif type(hx) is tuple and len(<tuple>hx) == self.plan.states:
            states = hx
        else:
            return False
        for k in range(self.plan.states):
            data = plain_address(states[k], self.dtype, self.state_shape, self.arrays.item)
            if data is NULL or not states[k].is_contiguous():
                return False
            views[k] = self.arrays.contiguous_states(data)
        return True

    cdef object run(self, dict attributes, object x, object hx):
        """What the module with these attributes returns for x and hx; None if something is different."""
        cdef fastrnn_view_t x_view
        cdef StateView states[STATES]
        for function in self.thread:
            if function():
                return None
        if self.autocast("cpu") or self.dual._current_level >= 0:
            return None
        if not self._find_sequence(x, &x_view) or self.settings() != self.setting:
            return None
        if not self._find_states(hx, states) or not self._is_current(attributes):
            return None
        y, final = self.plan.up(
            self.arrays, x, x_view, None, states, self.parameters, self.packed, None, None, None, False
        )  # fmt: skip
        state = final if self.plan.states > 1 else (<tuple>final)[0]
        return (y, state) if self.returns_y else state


cdef class Repeats:
    """The repeated calls of a module, by the shape of the input."""

    cdef dict calls

    def __init__(self):
        self.calls = {}

    def add(self, Repeat call not None):
        """Keep this one, and forget all if there are many."""
        if len(self.calls) >= REPEATS_MAX:
            self.calls = {}
        self.calls[call.x_shape] = call

    def __call__(self, dict attributes, x, hx):
        """As a `Repeat`."""
        cdef Repeat call
        if type(x) is not _TENSOR:
            return None
        found = self.calls.get(x.shape)
        if found is None:
            return None
        call = found
        return call.run(attributes, x, hx)
