"""An agent in which something breaks: ``python broken_agent.py HOW serve ...``.

What is broken is at the boundary to what is not ours: the runtime of networks, the disk, the clock.
It works until there is a file ``break`` in the working folder.
"""

import os
import sys
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

SWITCH = Path("break").absolute()
SLOW_S = 0.02
JUMP = timedelta(hours=-30)


def network(fail: Any) -> None:
    """Have the runtime's session do ``fail`` instead of its work."""
    import engines.deadline
    import engines.onnx_runtime

    engines.deadline.LONGEST_S = 6.0
    work = engines.onnx_runtime.OnnxSession.__call__

    def call(self: Any, inputs: Any) -> Any:
        return fail() if SWITCH.exists() else work(self, inputs)

    engines.onnx_runtime.OnnxSession.__call__ = call  # type: ignore[method-assign]


def crash() -> None:
    raise RuntimeError("Non-zero status code returned while running Conv node")


def out_of_memory() -> None:
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 1.2 GiB free)")


def hang() -> None:
    time.sleep(3600)


def slow_disk() -> None:
    """Every write and sync of the spool takes long."""
    write, sync = os.write, os.fdatasync

    def slow_write(file: int, data: Any) -> int:
        time.sleep(SLOW_S if SWITCH.exists() else 0)
        return write(file, data)

    def slow_sync(file: int) -> None:
        time.sleep(10 * SLOW_S if SWITCH.exists() else 0)
        sync(file)

    os.write, os.fdatasync = slow_write, slow_sync


def clock() -> None:
    """The wall clock goes back by more than a day."""
    import agent.spool

    now = time.time

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + (JUMP if SWITCH.exists() else timedelta())

    agent.spool.datetime = Jumped  # type: ignore[misc]
    time.time = lambda: now() + (JUMP.total_seconds() if SWITCH.exists() else 0)


HOW = {
    "network crash": lambda: network(crash),
    "network out of memory": lambda: network(out_of_memory),
    "network hang": lambda: network(hang),
    "process crash": lambda: network(os.abort),
    "slow disk": slow_disk,
    "clock": clock,
}

if __name__ == "__main__":
    HOW[sys.argv.pop(1)]()
    import boreside

    boreside.app()
