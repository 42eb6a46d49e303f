# Packed weights that short calls share; see _kept.pyx.
from libc.stdint cimport int64_t, uint64_t

from ._plan cimport Plan


cdef class Held


cdef class KeptWeights:
    cdef list held  # the current Held, or None; a list, since several threads may replace it
    cdef uint64_t seen
    cdef int64_t sightings, wanted

    cdef Held of_call(self, Plan plan, list parameters, bint training, object life)
    cdef _drop(self, Held held)
    cdef bint _are_unchanged(self, Held held, Plan plan, list parameters) except -1
    cdef Held _keep(self, Plan plan, list parameters, uint64_t mark, bint training, object life)


cdef class Held:
    cdef uint64_t mark
    cdef int64_t backend, hits
    cdef list copies
    cdef readonly list forward, backward  # packed weights of each layer and direction
    cdef object life
