"""How much k-space the unfinished images of a measurement may hold: half of the machine's memory.

A header, or a counter, of a few bytes can ask for a matrix that no machine has room for. It is
refused by name before memory is taken, and what has come stays in the spool.
"""

import math
import os

MOST_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
COMPLEX_BYTES = 8


class FrameTooLarge(ValueError):
    """The k-space of one image would be larger than the machine can hold."""


def frame_bytes(*shape: int) -> int:
    """Return how many bytes the complex64 k-space of one image takes.

    Parameters
    ----------
    *shape : int
        Coils, partitions, lines, samples.

    Raises
    ------
    FrameTooLarge
        More than `MOST_BYTES`.
    """
    size = math.prod(shape) * COMPLEX_BYTES
    if size > MOST_BYTES:
        raise FrameTooLarge(
            f"expected the k-space of one image to take at most {MOST_BYTES} bytes here, got "
            f"{size} for coils, partitions, lines and samples {shape}: see the header's matrix"
        )
    return size
