"""Checks of the machine: Python, GPU, TensorRT, clock and disk."""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from agent.config import EngineSettings, SpoolSettings
from agent.doctor import Check, ok, warning, wrong

ON_GPU = ("torch", "tensorrt")
"""Runtimes which are there for a GPU."""

PROBE_BYTES = 64 << 20
FAST, SLOW = 150e6, 70e6
"""Bytes per second. 16 coils of 512 samples, a thousand readouts a second, are 66e6."""

FREE_BYTES = 4 << 30
_STA_UNSYNC, _TIME_ERROR = 0x0040, 5


def python() -> Iterator[Check]:
    """Say which version this is."""
    yield ok("python", f"boreside {version('boreside')} on Python {platform.python_version()}")


def gpu(runtime: str) -> Iterator[Check]:
    """Look for a GPU, and whether the runtime in use needs one."""
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
        found = done.stdout.splitlines()[1:] if done.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        found = []
    if found:
        yield ok("gpu", "; ".join(found))
    elif runtime not in ON_GPU:
        yield ok("gpu", f"none; engines.runtime {runtime} needs none")
    else:
        mend = "install the driver (nvidia-smi must answer), or set engines.runtime: onnx"
        yield warning("gpu", f"none, and engines.runtime is {runtime}", mend)


def tensorrt(settings: EngineSettings) -> Iterator[Check]:
    """Look whether TensorRT is here and has engines, where the settings ask for it."""
    if settings.runtime != "tensorrt":
        yield ok("tensorrt", f"not used: engines.runtime is {settings.runtime}")
        return
    try:
        import torch_tensorrt  # type: ignore[import-not-found]
    except (ImportError, OSError) as error:
        mend = "pip install 'boreside[gpu]' with TensorRT's libraries, or engines.runtime: onnx"
        yield wrong("tensorrt", f"cannot be imported: {error}", mend)
        return
    from engines.store import PlanCache

    plans = list(PlanCache(settings.plans).folder.glob("*.plan"))
    if plans:
        yield ok("tensorrt", f"torch-tensorrt {torch_tensorrt.__version__}, {len(plans)} plans")
    else:
        mend = "boreside engine build NAME, once for each network and matrix"
        yield warning("tensorrt", "no compiled engines: networks give way to SENSE", mend)


class _Timex(ctypes.Structure):
    """Of adjtimex(2), as far as it is read here."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def clock() -> Iterator[Check]:
    """Look at the clock which latencies are told by, and at the one which records are dated by."""
    info = time.get_clock_info("monotonic")
    readings = [time.monotonic_ns() for _ in range(1000)]
    if not info.monotonic or readings != sorted(readings) or info.resolution > 1e-3:
        mend = (
            "another clock source: /sys/devices/system/clocksource/clocksource0/current_clocksource"
        )
        yield wrong("clock monotonic", f"goes back or is coarse ({info.resolution:g} s)", mend)
    else:
        yield ok("clock monotonic", f"{info.implementation}, resolution {info.resolution:g} s")
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        mend = "look at it on the host: timedatectl"
        yield warning("clock ntp", "cannot be told here", mend)
    elif state == _TIME_ERROR or timex.status & _STA_UNSYNC:
        mend = "timedatectl set-ntp true, or chrony with the hospital's time server"
        yield warning("clock ntp", "not synchronised: records and DICOM get wrong times", mend)
    else:
        yield ok("clock ntp", f"synchronised within {timex.maxerror / 1e3:g} ms")


def disk(settings: SpoolSettings) -> Iterator[Check]:
    """Write to the spool's disk as a measurement does, and look what room there is."""
    folder = settings.folder
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        mend = f"chown it to the agent's user, or another spool.folder than {settings.folder}"
        yield wrong("disk speed", f"{folder} cannot be written to", mend)
        return
    free = shutil.disk_usage(folder).free
    used = sum(path.stat().st_size for path in settings.folder.glob("*.mrd"))
    if free < FREE_BYTES:
        mend = "free the disk: without room measurements are held in memory, and are not durable"
        yield wrong("disk space", f"{_bytes(free)} free in {folder}", mend)
    elif free < settings.max_bytes - used:
        mend = f"spool.max_bytes of less than {_bytes(free + used)}, or a larger disk"
        may = f"the spool may grow by {_bytes(settings.max_bytes - used)}"
        yield warning("disk space", f"{_bytes(free)} free in {folder}, {may}", mend)
    else:
        yield ok("disk space", f"{_bytes(free)} free in {folder}")
    if free > 2 * PROBE_BYTES:
        yield _speed(folder)


def _speed(folder: Path) -> Check:
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        start = time.perf_counter()
        for _ in range(PROBE_BYTES // len(block)):
            file.write(block)
        os.fdatasync(file.fileno())
        rate = PROBE_BYTES / (time.perf_counter() - start)
    said = f"{_bytes(rate)}/s, written and synced in {folder}"
    mend = "a local SSD as spool.folder; nothing on the network"
    if rate < SLOW:
        return wrong("disk speed", said, mend)
    return warning("disk speed", said, mend) if rate < FAST else ok("disk speed", said)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
