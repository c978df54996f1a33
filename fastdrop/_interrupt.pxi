# Signals during long calls: Ctrl-C is honoured soon, not when the call ends. Included by _core.pyx.
cdef extern from *:
    """
    /* Runs the handlers of signals that came; other than 0 when one has raised, with the exception set. */
    static int fd_ask_signals(void)
    {
        PyGILState_STATE state = PyGILState_Ensure();
        int raised = PyErr_CheckSignals() != 0;
        PyGILState_Release(state);
        return raised;
    }
    """
    int fd_ask_signals() noexcept nogil

cdef extern from "fd_impl.h":
    ctypedef int fd_poll_fn() noexcept nogil
    void fd_watch(fd_poll_fn *poll) noexcept nogil
    int fd_unwatch() noexcept nogil


cdef inline void watch() noexcept:
    """Before a call without the GIL."""
    fd_watch(fd_ask_signals)


cdef inline int unwatch() except -1:
    """After it. Raises what a signal's handler raised meanwhile: the output is then written in part."""
    return -1 if fd_unwatch() else 0
