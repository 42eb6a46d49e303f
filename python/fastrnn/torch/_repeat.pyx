# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Calls that repeat an earlier call, with less Python around the kernel."""

import math

import torch

cimport numpy as cnp

from .._core cimport equal_bytes, fastrnn_view_t
from .._plan cimport STATES, Given, Plan, StateView
from ._tensor_arrays cimport TensorArrays
from ._tensor_memory cimport address_of, plain_address
from ._tensor_passes cimport Job, parameters_of

cnp.import_array()

cdef enum:
    REPEATS_MAX = 8
    REPACKED_BYTES_MAX = 256 << 10  # comparing smaller weights takes about as long as packing them
cdef object _TENSOR = torch.Tensor
cdef object is_grad_enabled = torch.is_grad_enabled


cdef class Repeat:
    """A dense call of a stack that is like one made before, for inference or for training.

    A short call takes less time than the Python around it. So everything that such a call needs is kept: its plan,
    packed weights, and what they were packed from. A call compares (what tensors are, the bytes of the parameters, the
    thread's state) and runs the plan, or returns None: then something is different. A call without packed weights packs
    the parameters, or reads them unpacked where packing does not pay. It returns None if large parameters have not
    changed since the previous such call: then keeping packed weights is faster.

    configuration: attributes of the module, by name, which must be as they were. packed: kept weights, or None.
    parameters: their names; the tensors, None for an absent one; contiguous tensors on their memory; arrays of the
    contents of the present tensors when they were packed, or None. shapes: of the input and of a state. returns_y: a
    cell returns its state alone. thread: functions that must return false, a function of the device, and torch's module
    of forward-mode differentiation; settings: a function, and its result. options: of a cell without inputs of each
    step. training: a job and what makes a node of the graph, or None for inference.
    """

    cdef Plan plan
    cdef TensorArrays arrays
    cdef list packed, parameters
    cdef tuple attributes, values, names, weights, aliases, copies, thread
    cdef object dtype, x_shape, state_shape, settings, setting, autocast, dual
    cdef list versions  # of the parameters that the previous call packed; a list, since several threads may set it
    cdef bint keeps_pays
    cdef object apply
    cdef Job job
    cdef Given given  # None for a cell without options
    cdef bint returns_y

    def __init__(
        self, configuration, Plan plan not None, TensorArrays arrays not None, list packed, parameters, shapes,
        dtype, bint returns_y, thread, settings, options=(), training=None,
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
        self.versions = [None]
        self.job, self.apply = (None, None) if training is None else training
        self.given = Given([], options) if options else None
        if training is not None and self.job.plan is not plan:
            raise ValueError("training: expected a job of the plan")
        if plan.like.table.input_count > 0 or len(options) != plan.like.table.option_count:
            raise ValueError("options: expected those of the plan, and no inputs of each step")
        if not plan.is_dense or (packed is not None and len(packed) != count):
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
        present = [one for one in self.aliases if one is not None]
        self.parameters = parameters_of(plan, present)
        plan.check_parameters(self.parameters)
        if self.job is not None:
            self.job.repeat_with(tuple(present), self.parameters)
        self.keeps_pays = plan.packs and sum([one.nbytes for one in present]) > REPACKED_BYTES_MAX

    cdef bint _is_current(self, dict attributes) except -1:
        """Whether the module has these attributes and parameters."""
        cdef Py_ssize_t j
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
        return True

    cdef bint _has_packed(self) except -1:
        """Whether the kept weights are those of the current parameters."""
        cdef Py_ssize_t copy = 0
        cdef int threads = self.setting[1]
        if self.packed is None:
            return False
        for weight in self.weights:
            if weight is not None:
                if not equal_bytes(address_of(weight), <cnp.ndarray>self.copies[copy], threads, self.plan.like.pace):
                    return False
                copy += 1
        return True

    cdef bint _may_pack(self) except -1:
        """Whether the call may pack the parameters itself."""
        cdef tuple versions
        if not self.keeps_pays:
            return True
        versions = tuple([
            0 if weight is None or weight.is_inference() else weight._version for weight in self.weights
        ])
        if versions == self.versions[0]:
            return False
        self.versions[0] = versions
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
        cdef list packed = self.packed if self._has_packed() else None
        if packed is None and not self._may_pack():
            return None
        if self.job is not None:
            return self._train(x, hx, packed)
        y, final = self.plan.up(
            self.arrays, x, x_view, None, states, self.parameters, packed, None, None, None, False,
            self.given,
        )  # fmt: skip
        state = final if self.plan.states > 1 else (<tuple>final)[0]
        return (y, state) if self.returns_y else state

    cdef bint is_like(self, tuple weights, list packed) except -1:
        """Whether it is for these parameters and kept weights."""
        cdef Py_ssize_t j
        if self.packed is not packed or len(self.weights) != len(weights):
            return False
        for j in range(len(weights)):
            if self.weights[j] is not weights[j]:
                return False
        return True

    cdef object _train(self, object x, object hx, list packed):
        """The call as a node of the graph; None if no gradient is wanted."""
        cdef tuple states, found
        cdef bint wanted = x.requires_grad
        cdef list tensors = [self.job if packed is None else self.job.with_packed(packed), x]
        if hx is None:
            states = (None,) * self.plan.states
        else:
            states = (hx,) if self.plan.states == 1 else hx
        for state in states:
            wanted = wanted or (state is not None and state.requires_grad)
            tensors.append(state)
        for weight in self.weights:
            if weight is not None:
                wanted = wanted or weight.requires_grad
                tensors.append(weight)
        if not wanted:
            return None
        found = self.apply(*tensors)
        state = found[1:] if self.plan.states > 1 else found[1]
        return (found[0], state) if self.returns_y else state


cdef class Repeats:
    """The repeated calls of a module: for inference and for training, by the shape of the input."""

    cdef tuple calls

    def __init__(self):
        self.calls = {}, {}

    def add(self, Repeat call not None):
        """Keep this one, and forget all of its kind if there are many."""
        cdef dict calls = self.calls[call.job is not None]
        if len(calls) >= REPEATS_MAX:
            calls.clear()
        calls[call.x_shape] = call

    def holds(self, shape, tuple weights, bint training, list packed):
        """Whether there is a call of this shape with these parameters and kept weights."""
        cdef Repeat call
        found = self.calls[training].get(shape)
        if found is None:
            return False
        call = found
        return call.is_like(weights, packed)

    def __call__(self, dict attributes, x, hx):
        """As a `Repeat`."""
        cdef Repeat call
        if type(x) is not _TENSOR:
            return None
        found = self.calls[1 if is_grad_enabled() else 0].get(x.shape)
        if found is None:
            return None
        call = found
        return call.run(attributes, x, hx)
