# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Where the numbers of torch's tensors lie, found through their Python methods.

``Tensor.numpy()`` forbids torch to resize the tensor's storage, for good; FSDP and ``resize_`` need that. So addresses
are asked for. They are of use during a call alone, since torch may resize a storage between two calls.
"""

import numpy as np
import torch

cimport numpy as cnp
from libc.stddef cimport size_t

from .._core cimport Pace, equal_bytes

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

cdef object _CONTIGUOUS = torch.contiguous_format
cdef object _TENSOR = torch.Tensor

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


cdef object tensor_like(object empty_like, object outline, size_t size, void **address):
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
