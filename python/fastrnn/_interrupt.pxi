"""Signals during long calls, such as Ctrl-C: part of _core.pyx.

The main thread, in which alone Python runs signal handlers, lets them run after each quarter of a second of a call. One
that raises ends the call.
"""

import os
import threading

from cpython.exc cimport PyErr_CheckSignals


cdef extern from "Python.h":
    unsigned long _this_thread "PyThread_get_thread_ident"() nogil


ctypedef int (*_question)() noexcept nogil

cdef unsigned long _main_thread = threading.main_thread().ident
cdef object _scratch = None
cdef object _no_scratch = np.empty(0, np.uint8)


def _note_main_thread():
    global _main_thread
    _main_thread = threading.main_thread().ident


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_main_thread)


def leave_scratch_to_calls(scratch):
    """The scratch of every thread: `scratch.buffer`, which `scratch.at_least(size)` makes larger.

    It is taken away when handlers run in the middle of a call, which uses it: they may make calls too.
    """
    global _scratch
    _scratch = scratch


cdef cnp.ndarray scratch_of(size_t size):
    """The calling thread's scratch, of at least this many bytes."""
    cdef cnp.ndarray buffer = _scratch.buffer
    return buffer if <size_t>cnp.PyArray_NBYTES(buffer) >= size else _scratch.at_least(size)


cdef int _let_handlers_run() except -1 nogil:
    """-1, with the exception set, if one raises."""
    if _this_thread() != _main_thread:
        return 0
    with gil:
        if _scratch is not None:
            _scratch.buffer = _no_scratch  # no line of Python, in which a handler could run too early
        PyErr_CheckSignals()
    return 0
