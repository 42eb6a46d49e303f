# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Packed weights that short calls share while the parameters do not change.

A write to a NumPy array leaves no trace, so each call compares the parameters with copies, byte by byte, which takes
less time than packing. Copies are made when several calls in turn have seen the same parameters; training changes them
at each step, and copies nothing. A few sampled words tell quickly that parameters have changed.
"""

import weakref

cimport numpy as cnp
from libc.stddef cimport size_t
from libc.string cimport memcpy

from ._core cimport equal_bytes

cnp.import_array()

cdef enum:
    KEPT_BYTES_MIN = 256 << 10  # smaller weights are packed in about the time of a comparison
    READS_MAX = 64  # of the weights in a call; packing is a small part of a longer one
    ROWS_OF_READ = 8
    SAMPLES = 32
    WANTED_MAX = 256


cdef uint64_t mark_of(list parameters) noexcept:
    """A hash of sizes and of sampled words."""
    cdef uint64_t mark = 0, word
    cdef size_t size, j, step
    cdef const char *data
    for parameter in parameters:
        if parameter is None:
            continue
        size = cnp.PyArray_NBYTES(<cnp.ndarray>parameter)
        data = <const char *>cnp.PyArray_DATA(<cnp.ndarray>parameter)
        mark = (mark ^ size) * <uint64_t>0x9E3779B97F4A7C15
        if size < sizeof(word):
            continue
        step = (size - sizeof(word)) // SAMPLES + 1
        for j in range(0, size - sizeof(word) + 1, step):
            memcpy(&word, data + j, sizeof(word))
            mark = (mark ^ word) * <uint64_t>0x9E3779B97F4A7C15
            mark ^= mark >> 32
    return mark


cdef bint worth_keeping(Plan plan, list parameters) noexcept:
    """Whether packing takes a good part of a call's time, and longer than a comparison."""
    cdef size_t size = 0
    if plan.T * ((plan.B + ROWS_OF_READ - 1) // ROWS_OF_READ) > READS_MAX:
        return False
    for parameter in parameters:
        if parameter is not None:
            size += cnp.PyArray_NBYTES(<cnp.ndarray>parameter)
    return size >= KEPT_BYTES_MIN


cdef class Held:
    """Copies of parameters, and these packed."""


cdef class KeptWeights:
    """The packed weights of one owner: a layer, or a function at one size."""

    def __cinit__(self):
        self.held, self.wanted = [None], 1

    cdef Held of_call(self, Plan plan, list parameters, bint training, object life):
        """Packed weights of these parameters, for backward too if training; None: the call packs them itself.

        life: None, or an array whose end is the end of what is kept for it.
        """
        cdef Held held
        cdef uint64_t mark
        if not (plan.packs or training) or not worth_keeping(plan, parameters):
            return None
        held, mark = self.held[0], mark_of(parameters)
        if held is not None and held.mark == mark and self._are_unchanged(held, plan, parameters):
            held.hits += 1
            self.wanted = max(1, self.wanted // 2)
            if training and held.backward is None:
                held.backward = plan.packed_weights(held.copies, True)
            return held
        if held is not None:
            self._drop(held)
        self.sightings = self.sightings + 1 if mark == self.seen else 0
        self.seen = mark
        if self.sightings < self.wanted:
            return None
        return self._keep(plan, parameters, mark, training, life)

    cdef _drop(self, Held held):
        """Copies that no later call has used cost time: the next ones wait for more calls with the same parameters."""
        self.held[0] = None
        if held.hits == 0:
            self.wanted = min(2 * self.wanted, WANTED_MAX)

    cdef bint _are_unchanged(self, Held held, Plan plan, list parameters) except -1:
        cdef int j
        if held.backend != plan.backend or len(held.copies) != len(parameters):
            return False
        for j in range(len(parameters)):
            parameter, copy = parameters[j], held.copies[j]
            if parameter is None or copy is None:
                if parameter is not copy:
                    return False
            elif cnp.PyArray_NBYTES(<cnp.ndarray>parameter) != cnp.PyArray_NBYTES(<cnp.ndarray>copy):
                return False
            elif not equal_bytes(<size_t>cnp.PyArray_DATA(<cnp.ndarray>parameter), copy, plan.threads, plan.like.pace):
                return False
        return True

    cdef Held _keep(self, Plan plan, list parameters, uint64_t mark, bint training, object life):
        cdef Held held = Held.__new__(Held)
        held.mark, held.backend = mark, plan.backend
        held.copies = [None if one is None else one.copy() for one in parameters]
        held.forward = plan.packed_weights(held.copies, False)
        held.backward = plan.packed_weights(held.copies, True) if training else None
        if life is not None:
            held.life = weakref.ref(life, self._forget)
        self.held[0] = held
        return held

    def _forget(self, life):
        """An array has died, and with it what is kept for it."""
        cdef Held held = self.held[0]
        if held is not None and held.life is life:
            self._drop(held)
