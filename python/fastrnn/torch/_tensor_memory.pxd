# Addresses of tensors; see _tensor_memory.pyx.
from libc.stddef cimport size_t


cdef size_t address_of(object tensor) except? 0
cdef object tensor_like(object empty_like, object outline, size_t size, void **address)
cdef void *plain_address(object tensor, object dtype, object shape, size_t item) except? NULL
cdef object readable(object tensor)
