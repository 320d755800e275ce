"""The C library's heap, for a process that runs for months with a thread for each connection."""

import contextlib
import ctypes

M_ARENA_MAX = -8
ARENAS = 2


def few_arenas() -> None:
    """Have all threads share few arenas; to be called before there are any.

    glibc gives each thread one of up to eight for each core, and what one has freed another does
    not find: memory grows over hundreds of measurements (`python -m bench soak`) although all of
    it is given back.
    """
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such thing
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
