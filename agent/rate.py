"""How often something may happen: a bucket that fills with time and empties with use."""

import time
from collections.abc import Callable


class Rate:
    """So many a minute, at most as many at once.

    Parameters
    ----------
    per_minute : int
    clock : callable
        Monotonic clock, seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = self._left = float(per_minute)
        self._clock = clock
        self._seen = clock()

    def allows(self) -> bool:
        """Return whether it may happen once more now; then it counts as having happened."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._seen) * self._most / 60)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
