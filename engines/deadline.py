"""Work with a deadline: what is late is left behind, and what was waiting for it goes on.

Work cannot be stopped from outside. It runs on a thread of its own; whoever waits leaves at the
deadline, and until the late work ends on its own nothing new is begun, so that it never piles up.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

LONGEST_S = 60.0
"""Work that has no deadline is taken to hang after that, and is left behind too."""


class Late(Exception):
    """Work was not done in time."""


class Deadlines:
    """Does one work at a time, each up to its deadline.

    Parameters
    ----------
    clock : callable
        Monotonic clock, nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._working: threading.Thread | None = None

    def run(self, work: Callable[[Callable[[], None]], Any], until_ns: int | None) -> Any:
        """Return what ``work`` returns.

        Parameters
        ----------
        work : callable
            Takes a function that raises `Late` once the deadline has passed: to be called where
            the work can well be given up.
        until_ns : int or None
            Deadline, of the clock. None: there is none, but `LONGEST_S` for the work itself.

        Raises
        ------
        Late
            The deadline has passed, before or during the work, or earlier work is still running.
        Exception
            What the work raises.
        """

        def check() -> None:
            if until_ns is not None and self._clock() > until_ns:
                raise Late("the deadline passed while the engine ran")

        if until_ns is not None and self._clock() > until_ns:
            raise Late("the deadline had passed before the engine could run")
        if self._working is not None and self._working.is_alive():
            raise Late("the engine is still busy with an earlier image, which it was late for")
        outcome: list[tuple[Any, BaseException | None]] = []

        def attempt() -> None:
            try:
                outcome.append((work(check), None))
            except BaseException as error:
                outcome.append((None, error))

        self._working = threading.Thread(target=attempt, name="engine", daemon=True)
        self._working.start()
        left_s = LONGEST_S if until_ns is None else max(0, until_ns - self._clock()) / 1e9
        self._working.join(left_s)
        if not outcome:
            if until_ns is None:
                raise Late(f"the engine did not answer within {left_s:g} s")
            raise Late("the deadline passed while the engine ran")
        check()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result
