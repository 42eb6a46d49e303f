# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Linear recurrences of the core on NumPy arrays, and sums in a fixed order, which are such recurrences too.

This module checks arrays against the sizes of a call, so no call from Python can make the core read or write out of
bounds. Inputs may have any whole strides, and axes of size 1 or absent leading axes, which are repeated.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memset

from ._core cimport (
    FASTRNN_F32,
    FASTRNN_F64,
    FASTRNN_FROM_FIRST_STEP,
    FASTRNN_FROM_LAST_STEP,
    FASTRNN_LINEAR_BACKWARD,
    FASTRNN_LINEAR_FORWARD,
    fastrnn_const_tensor_t,
    fastrnn_linear_t,
    fastrnn_tensor_t,
    run_linear,
)

cnp.import_array()


cdef fastrnn_tensor_t _tensor(object array, str name, int type_number, tuple shape, bint writeable) except *:
    """The strides of an array that is repeated to `shape`, (T, B, H); an output has that shape. Null for None."""
    cdef fastrnn_tensor_t tensor = fastrnn_tensor_t(NULL, 0, 0, 0)
    cdef cnp.npy_intp strides[3]
    cdef cnp.npy_intp size
    cdef cnp.ndarray a
    cdef int axis, missing
    if array is None:
        return tensor
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(array).__name__}")
    a, size = array, array.itemsize
    if cnp.PyArray_TYPE(a) != type_number or not cnp.PyArray_ISNOTSWAPPED(a):
        raise TypeError(f"{name}: unexpected dtype {a.dtype}")
    if cnp.PyArray_NDIM(a) > 3 or (writeable and array.shape != shape):
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    if not cnp.PyArray_ISALIGNED(a) or (writeable and not cnp.PyArray_ISWRITEABLE(a)):
        raise ValueError(f"{name}: the array must be aligned, and writeable if it is an output")
    missing = 3 - cnp.PyArray_NDIM(a)
    for axis in range(3):
        strides[axis] = axis > 0 and shape[axis] == 1  # the same address; the core is fastest with adjacent numbers
        if axis >= missing and cnp.PyArray_DIM(a, axis - missing) != 1:
            if cnp.PyArray_DIM(a, axis - missing) != shape[axis]:
                raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
            strides[axis] = cnp.PyArray_STRIDE(a, axis - missing) // size
            if cnp.PyArray_STRIDE(a, axis - missing) % size:
                raise ValueError(f"{name}: strides must be multiples of the item size")
    tensor.data = cnp.PyArray_DATA(a)
    tensor.stride_t, tensor.stride_b, tensor.stride_h = strides[0], strides[1], strides[2]
    return tensor


cdef fastrnn_const_tensor_t _const_tensor(object array, str name, int type_number, tuple shape) except *:
    cdef fastrnn_tensor_t tensor = _tensor(array, name, type_number, shape, False)
    return fastrnn_const_tensor_t(tensor.data, tensor.stride_t, tensor.stride_b, tensor.stride_h)


cdef int _problem(
    tuple settings, object dtype, tuple shape, object lengths, object resets, bint reverse, fastrnn_linear_t *linear
) except -1:
    """Everything but the tensors. settings: backend, threads and cut. Returns the type number."""
    cdef cnp.ndarray a
    cdef int type_number = (<cnp.dtype?>dtype).type_num
    memset(linear, 0, sizeof(fastrnn_linear_t))
    if type_number != cnp.NPY_FLOAT32 and type_number != cnp.NPY_FLOAT64:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype}")
    linear.dtype = FASTRNN_F32 if type_number == cnp.NPY_FLOAT32 else FASTRNN_F64
    linear.backend, linear.threads, linear.cut = settings
    linear.T, linear.B, linear.H = shape
    linear.direction = FASTRNN_FROM_LAST_STEP if reverse else FASTRNN_FROM_FIRST_STEP
    if lengths is not None:
        a = lengths
        if cnp.PyArray_TYPE(a) != cnp.NPY_INT64 or lengths.shape != (linear.B,) or not cnp.PyArray_ISCARRAY_RO(a):
            raise ValueError(f"lengths: expected contiguous integers of shape {(linear.B,)}")
        linear.lengths = <const int64_t *>cnp.PyArray_DATA(a)
    if resets is not None:
        a = resets
        if cnp.PyArray_TYPE(a) != cnp.NPY_BOOL or resets.shape != (linear.T, linear.B):
            raise ValueError(f"resets: expected booleans of shape {(linear.T, linear.B)}")
        linear.resets = <const unsigned char *>cnp.PyArray_DATA(a)
        linear.resets_stride_t, linear.resets_stride_b = cnp.PyArray_STRIDE(a, 0), cnp.PyArray_STRIDE(a, 1)
    return type_number


def forward(tuple settings, a, b, h0, h, lengths, resets, bint reverse):
    """Fill h, (T, B, H). a, b and h0 are repeated to (T, B, H) and (1, B, H); h0, lengths and resets may be None."""
    cdef fastrnn_linear_t linear
    cdef tuple shape = h.shape
    cdef int type_number = _problem(settings, h.dtype, shape, lengths, resets, reverse, &linear)
    linear.a = _const_tensor(a, "a", type_number, shape)
    linear.b = _const_tensor(b, "b", type_number, shape)
    linear.h0 = _const_tensor(h0, "h0", type_number, (1, *shape[1:]))
    linear.h = _tensor(h, "h", type_number, shape, True)
    run_linear(&linear, FASTRNN_LINEAR_FORWARD)


def backward(tuple settings, a, h0, h, dh, da, db, dh0, lengths, resets, bint reverse):
    """Fill da and db, (T, B, H), and dh0, (1, B, H). h0, da and dh0 may be None, and h without da."""
    cdef fastrnn_linear_t linear
    cdef tuple shape = db.shape
    cdef int type_number = _problem(settings, db.dtype, shape, lengths, resets, reverse, &linear)
    cdef fastrnn_const_tensor_t states
    linear.a = _const_tensor(a, "a", type_number, shape)
    linear.h0 = _const_tensor(h0, "h0", type_number, (1, *shape[1:]))
    linear.dh = _const_tensor(dh, "dh", type_number, shape)
    linear.da = _tensor(da, "da", type_number, shape, True)
    linear.db = _tensor(db, "db", type_number, shape, True)
    linear.dh0 = _tensor(dh0, "dh0", type_number, (1, *shape[1:]), True)
    if h is not None and h.shape != shape:
        raise ValueError(f"h: expected shape {shape}, got {h.shape}")
    states = _const_tensor(h, "h", type_number, shape)
    linear.h = fastrnn_tensor_t(<void *>states.data, states.stride_t, states.stride_b, states.stride_h)  # read only
    run_linear(&linear, FASTRNN_LINEAR_BACKWARD)


def add_up(tuple settings, array, to, int axis, lengths):
    """Add up an axis of (T, B, H), in ascending order, into `to`, where the axis has size 1.

    This is the recurrence with a = 1. lengths: of axis 0 or None; without a number to add, `to` stays.
    """
    cdef fastrnn_linear_t linear
    cdef tuple order = (axis, *[other for other in range(3) if other != axis])
    turned, sums, one = array.transpose(order), to.transpose(order), np.ones((), array.dtype)
    cdef tuple shape = turned.shape
    cdef int type_number = _problem(settings, array.dtype, shape, lengths, None, False, &linear)
    linear.a = _const_tensor(one, "a", type_number, shape)
    linear.b = _const_tensor(turned, "array", type_number, shape)
    linear.h = _tensor(sums, "to", type_number, (1, *shape[1:]), True)
    run_linear(&linear, FASTRNN_LINEAR_FORWARD)
