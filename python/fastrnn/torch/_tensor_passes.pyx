# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The passes of a plan over tensors: arguments as the core reads them, and gradients where autograd wants them.

In all of them `states` has a tensor or None for each state of the cell; `weights` has the present parameters of each
layer and direction, and then the inputs of each step in the order of `Given`; `options` are the cell's numbers; `masks`
has arrays, of the input of each layer but the first, or is None; `starting` says which sequences ignore their initial
state.
"""

cimport numpy as cnp

from .._plan import tape_of
from ..given import input_gradient
from .tensors import arrays_or_none

from .._plan cimport Given, Plan, Tape
from ._tensor_arrays cimport TensorArrays
from ._tensor_memory cimport readable

cnp.import_array()


cdef int input_count(Plan plan) noexcept:
    """The inputs of each step, of all layers and directions."""
    return plan.like.table.input_count * plan.layers * plan.directions


cdef list parameters_of(Plan plan, object weights):
    """Those of the cell's table for each layer and direction as the core reads them; None for an absent one."""
    cdef list found = []
    cdef int j, k, at = 0, count = plan.layers * plan.directions
    cdef int given = <int>len(weights) - input_count(plan)
    cdef bint has_optional = given == count * plan.each
    if not has_optional and given != count * plan.required:
        raise ValueError(f"weights: expected {plan.required} or {plan.each} for each layer and direction, got {given}")
    for j in range(count):
        for k in range(plan.each):
            if not has_optional and not plan.is_required(k):
                found.append(None)
                continue
            weight = weights[at]
            at += 1
            found.append(
                weight if weight.is_contiguous() and not weight.is_neg() else weight.contiguous().resolve_neg()
            )
    return found


cdef Given given_of(Plan plan, object weights, tuple options):
    """The inputs of each step and the options; None for a cell without any."""
    cdef Py_ssize_t inputs = input_count(plan), first = len(weights) - inputs
    if len(options) != plan.like.table.option_count:
        raise ValueError(f"options: expected {plan.like.table.option_count}, got {len(options)}")
    if inputs == 0 and not options:
        return None
    return Given([readable(one) for one in weights[first:]], options)


cdef tuple readable_states(Plan plan, object states):
    cdef int k
    return tuple([readable(states[k]) for k in range(plan.states)])


cdef list applied_masks(object masks):
    """Of each layer's input, as arrays; None without dropout."""
    return None if masks is None else [None, *masks]


def forward(
    Plan plan not None, TensorArrays arrays not None, x, states, weights, packed, masks, starting, bint training=True,
    tuple options=(),
):  # fmt: skip
    """(outputs, kept): y and the final states, and what backward needs. packed: forward's weights, or None."""
    cdef Given given = given_of(plan, weights, options)
    return run_forward(plan, arrays, x, states, parameters_of(plan, weights), given, packed, masks, starting, training)


cdef tuple run_forward(
    Plan plan, TensorArrays arrays, x, states, list parameters, Given given, packed, masks, starting, bint training
):
    """`forward` of parameters as the core reads them."""
    cdef int layer
    cdef Tape tape
    cdef list kept = []
    cdef tuple initial = readable_states(plan, states)
    y, final, found = plan.forward(
        arrays, readable(x), initial, parameters, packed, None, applied_masks(masks), None, None, training, False,
        starting, given,
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


def infer(
    Plan plan not None, TensorArrays arrays not None, x, states, weights, list packed, masks, starting,
    tuple options=(),
):  # fmt: skip
    """y and the final states; packed None: the weights are packed if that pays."""
    cdef tuple initial = readable_states(plan, states)
    cdef list parameters = None if packed is not None else parameters_of(plan, weights)
    y, final, _ = plan.forward(
        arrays, readable(x), initial, parameters, packed, None, applied_masks(masks), None, None, False, False,
        starting, given_of(plan, weights, options),
    )  # fmt: skip
    return (y, *final)


cdef class Job:
    """A training call, or all calls that are alike.

    description: fastrnn.torch's plan, with the options, which `plan` carries out; starting: sequences that ignore their initial state.
    For a single call: packed, the weights of forward, or None if the call packs or reads them itself; masks, the tensors
    of dropout, or None.
    """

    def __init__(self, description, Plan plan not None, TensorArrays arrays not None, starting, list packed, masks):
        self.description, self.plan, self.arrays = description, plan, arrays
        self.starting, self.packed, self.masks = starting, packed, masks
        self.mask_count = 0 if masks is None else len(masks)

    cdef void repeat_with(self, tuple aliases, list parameters) noexcept:
        """Prepare for calls with the same weights. aliases: of these weights, see `unswappable`."""
        self.aliases, self.parameters = aliases, parameters

    cdef Job with_packed(self, list packed):
        """The same call with packed weights for forward."""
        cdef Job job = Job(self.description, self.plan, self.arrays, self.starting, packed, None)
        job.aliases, job.parameters = self.aliases, self.parameters
        return job

    cdef list parameters_of(self, object weights):
        """The parameters as the core reads them; weights: those of the node, or what autograd has saved of them."""
        cdef Py_ssize_t j
        if self.aliases is None or len(weights) != len(self.aliases):
            return parameters_of(self.plan, weights)
        for j in range(len(self.aliases)):
            if weights[j] is not self.aliases[j]:  # a hook on saved tensors may return others
                return parameters_of(self.plan, weights)
        return self.parameters


def begin(ctx, Job job not None, x, tuple tensors):
    """Forward of a node of the graph; ctx keeps what backward reads. tensors: the states and the weights."""
    cdef int states = job.plan.states, j
    cdef tuple weights = tensors[states:] if job.aliases is None else job.aliases
    applied = None if job.masks is None else arrays_or_none(job.masks)
    cdef Given given = given_of(job.plan, weights, job.description.options)
    outputs, kept = run_forward(
        job.plan, job.arrays, x, tensors[:states], job.parameters_of(weights), given, job.packed, applied, job.starting,
        True,
    )  # fmt: skip
    cdef list saved = [outputs[0], unswappable(x)]
    for j in range(states):
        saved.append(unswappable(tensors[j]))
    for j in range(len(weights)):
        weight = tensors[states + j]  # one that is no leaf keeps its history, for derivatives of gradients
        saved.append(weights[j] if weight.is_leaf and job.aliases is not None else unswappable(weight))
    if job.masks is not None:
        saved.extend(job.masks)
    saved.extend(kept)
    job.packed = job.masks = None  # the graph keeps the job
    ctx.job = job
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*saved)
    return outputs


def saved_of(ctx):
    """(y, inputs, masks or None, kept): what `begin` has saved; the inputs are x, the states, and the weights."""
    cdef Job job = ctx.job
    cdef tuple saved = ctx.saved_tensors
    cdef Py_ssize_t inputs = len(ctx.needs_input_grad)  # the job counts, as y does among the saved tensors
    cdef Py_ssize_t masks = inputs + job.mask_count
    return saved[0], saved[1:inputs], saved[inputs:masks] if job.mask_count else None, saved[masks:]


def end(ctx, tuple d, tuple wanted, truncation):
    """Backward of a node of the graph; see `backward`."""
    cdef Job job = ctx.job
    cdef int states = job.plan.states
    y, inputs, masks, kept = saved_of(ctx)
    masks = None if masks is None else arrays_or_none(masks)
    weights = inputs[1 + states :]
    cdef Given given = given_of(job.plan, weights, job.description.options)
    return run_backward(
        job.plan, job.arrays, y, inputs[0], inputs[1 : 1 + states], job.parameters_of(weights), given, masks,
        job.starting, kept, d, wanted, truncation,
    )  # fmt: skip


cpdef object unswappable(object tensor):
    """A tensor with the same memory and version, which a later ``tensor.data = …`` does not reach; for leaves alone.

    torch saves views of weights, and its gradients are those of the weights that the call used.
    """
    return tensor.detach() if tensor is not None and tensor.is_leaf else tensor


cdef Tape tape_again(
    Plan plan, TensorArrays arrays, y, x, states, list parameters, Given given, masks, starting, kept
):
    """The tape of a call of `forward` that kept these tensors."""
    cdef int layer, at = 0, count = plan.layers * plan.directions
    cdef list inputs = [readable(x)], outputs = [], reserves = [None] * count
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
    initial = readable_states(plan, states)
    return tape_of(plan, arrays, initial, parameters, inputs, outputs, reserves, applied_masks(masks), starting, given)


def backward(
    Plan plan not None, TensorArrays arrays not None, y, x, states, weights, masks, starting, kept, d, wanted,
    truncation, tuple options=(),
):  # fmt: skip
    """The gradients of x, the states and the weights, None where not wanted.

    kept: what forward returned; d: of y and the final states, None standing for zero; wanted: for each gradient.
    """
    cdef list parameters = parameters_of(plan, weights)
    cdef Given given = given_of(plan, weights, options)
    return run_backward(plan, arrays, y, x, states, parameters, given, masks, starting, kept, d, wanted, truncation)


cdef list run_backward(
    Plan plan, TensorArrays arrays, y, x, states, list parameters, Given given, masks, starting, kept, d, wanted,
    truncation,
):  # fmt: skip
    """`backward` of parameters as the core reads them."""
    cdef int j, k, at = 1 + plan.states
    cdef list into = [None] * len(parameters), found = [], d_inputs = None
    cdef Tape tape = tape_again(plan, arrays, y, x, states, parameters, given, masks, starting, kept)
    cdef bint wants_states = False
    for j in range(len(parameters)):
        if parameters[j] is not None:
            if wanted[at]:
                into[j] = arrays.new_gradient(parameters[j])
            at += 1
    for k in range(plan.states):
        wants_states = wants_states or wanted[1 + k]
    if given is not None and any(wanted[at:]):
        d_inputs = new_input_gradients(plan, tape, wanted[at:])
    d_final = readable_states(plan, d[1:])
    dx, d_initial = plan.backward(
        tape, readable(d[0]), d_final, into, truncation, wanted[0], wants_states, True, d_inputs
    )  # fmt: skip
    if dx is not None and (<cnp.ndarray>dx).ndim != x.dim():
        dx = dx.reshape(tuple(x.shape))
    found.append(None if dx is None else arrays.from_numpy(dx))
    for k in range(plan.states):
        found.append(arrays.from_numpy((<tuple>d_initial)[k]) if wanted[1 + k] else None)
    for j in range(len(parameters)):
        if parameters[j] is not None:
            found.append(None if into[j] is None else arrays.from_numpy(into[j]))
    for j in range(input_count(plan)):
        one = None if d_inputs is None else d_inputs[j]
        found.append(None if one is None else arrays.from_numpy(gradient_of_input(plan, given, j, one)))
    return found


cdef list new_input_gradients(Plan plan, Tape tape, wanted):
    """Arrays for gradients for each unit, of the inputs of each step that want one."""
    cdef Py_ssize_t j
    return [
        tape.arrays.new_array_sequence(plan.rows, plan.width, plan.H, plan.pads) if wanted[j] else None
        for j in range(len(wanted))
    ]


cdef object gradient_of_input(Plan plan, Given given, int j, object per_unit):
    """The gradient of input j in the shape of its tensor, of the gradients for each unit."""
    row = plan.like.row
    name = row.inputs[j % len(row.inputs)]
    return input_gradient(row, name, per_unit).reshape(tuple(given.inputs[j].shape))
