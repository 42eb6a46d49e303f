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
cdef size_t FRESH_BYTES_MIN = 32 << 20
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


def new_tensor(nothing, tuple shape, dtype):
    """A new contiguous tensor with the dtype and device of the tensor `nothing`, and an array on its memory."""
    cdef cnp.npy_intp dims[32]
    cdef size_t size = (<cnp.dtype?>dtype).itemsize
    cdef int axis, rank = min(len(shape), 32)
    for axis in range(rank):
        dims[axis] = shape[axis]
        size *= dims[axis]
    tensor = nothing.new_empty(shape)
    cdef size_t address = tensor.data_ptr()
    if size >= FRESH_BYTES_MIN:
        _ask_for_huge_pages(<void *>address, size)
    return tensor, _array_at(address, rank, dims, NULL, dtype, tensor)


cdef object _array_at(size_t address, int rank, cnp.npy_intp *dims, cnp.npy_intp *steps, cnp.dtype dtype, object owner):
    """Of this shape, with strides of bytes or contiguous; an array of its own if the address is null."""
    cdef void *data = <void *>address
    array = cnp.PyArray_New(np.ndarray, rank, dims, dtype.type_num, steps, data, 0, cnp.NPY_ARRAY_CARRAY, None)
    if data is not NULL:
        cnp.set_array_base(array, owner)
    return array


def array_on(tensor, dtype):
    """An array on the memory of a dense tensor with the same shape and strides. It keeps the tensor alive."""
    cdef cnp.npy_intp dims[32]
    cdef cnp.npy_intp steps[32]
    cdef cnp.npy_intp size = (<cnp.dtype?>dtype).itemsize, count = 1
    cdef int axis, rank
    cdef bint is_contiguous = tensor.is_contiguous()
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
    cdef size_t address = _address_of(tensor)
    if address == 0:
        raise RuntimeError("tensor: its storage was resized to 0 bytes and holds no memory")
    return _array_at(address, rank, dims, NULL if is_contiguous else steps, dtype, tensor)
