"""The memory of torch's tensors, found through their Python methods: part of _core.pyx.

``Tensor.numpy()`` forbids torch to resize the tensor's storage, for good; FSDP and ``resize_`` need that. So addresses
are asked for. They are of use during a call alone, since torch may resize a storage between two calls.
"""

cdef extern from *:
    """
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

# From here on the C library maps fresh pages for every allocation (glibc's largest M_MMAP_THRESHOLD).
FRESH_BYTES = 32 << 20
cdef size_t FRESH_BYTES_MIN = FRESH_BYTES
# Addresses of allocations lie above, except on a few platforms, where `_address_of` looks twice.
cdef size_t LOW_ADDRESSES = <size_t>1 << 40


cdef size_t _address_of(object tensor) except? 0:
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


def prefer_huge_pages(tensor):
    """Advise the system on the memory of a large tensor that was just made."""
    cdef size_t address = tensor.data_ptr()
    _ask_for_huge_pages(<void *>address, tensor.nbytes)


def array_on(tensor, dtype):
    """An array on the memory of a dense tensor with the same shape and strides. It keeps the tensor alive."""
    cdef cnp.npy_intp dims[32]
    cdef cnp.npy_intp steps[32]
    cdef cnp.npy_intp last = 0, size = (<cnp.dtype?>dtype).itemsize
    cdef int axis, rank = tensor.dim()
    shape, strides = tensor.shape, tensor.stride()
    if rank > 32:
        raise ValueError(f"tensor: expected at most 32 axes, got {rank}")
    for axis in range(rank):
        dims[axis], steps[axis] = shape[axis], strides[axis]
        last += (dims[axis] - 1) * steps[axis]
        steps[axis] *= size
    if tensor.numel() == 0:
        return np.empty(shape, dtype)
    if (tensor.storage_offset() + last + 1) * size > tensor.untyped_storage().nbytes():
        raise RuntimeError(f"tensor: its storage was resized to {tensor.untyped_storage().nbytes()} bytes, too few")
    cdef size_t address = tensor.data_ptr()
    array = cnp.PyArray_New(
        np.ndarray, rank, dims, (<cnp.dtype>dtype).type_num, steps, <void *>address, 0, cnp.NPY_ARRAY_WRITEABLE, None
    )
    cnp.set_array_base(array, tensor)
    return array
