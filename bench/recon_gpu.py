"""The unrolled reconstruction as one CUDA graph beside the same steps launched one by one.

320 x 320, 16 coils, R = 4, random k-space and maps, from whitened k-space and the SENSE image to
the image of the network, in FP16. The arrays lie on the GPU where CuPy is installed, else they are
moved to it every time, and the case says so. ``p99`` is of single slices, each waited for;
``nrmse`` is the difference to the network in FP32 on the CPU (ONNX Runtime) through the same steps
in NumPy. Without a GPU it is not run.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.rows import row
from engines.engine import LoadedEngine, Options, load_engine
from engines.errors import EngineUnavailable
from engines.unrolled import Schedule, unrolled

SHAPE, COILS = (1, 320, 320), 16
REPEATS = 500


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows of ``p50``, ``p99`` and ``nrmse``.

    Raises
    ------
    engines.errors.EngineUnavailable
        There is no network, no PyTorch or no GPU.
    """
    engine = load_engine("recon", runtime="torch", options=Options(precision="fp16"))
    if "CPU" in engine.runtime:
        raise EngineUnavailable("recon", "not run: PyTorch finds no GPU")
    given, where = on_gpu(slice_of(SHAPE, COILS))
    reference = load_engine("recon")
    return compare(
        engine, reference, given, f"320 x 320, 16 coils, {where}", 50 if quick else REPEATS
    )


def slice_of(shape: tuple[int, int, int], coils: int) -> tuple[np.ndarray, ...]:
    """Return k-space, mask, maps, start and noise map, as `engines.unrolled` takes them."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]

    maps = normal(coils, *shape)
    maps /= np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    mask = np.zeros(shape[:2], bool)
    mask[:, ::4] = mask[:, shape[1] // 2 - 12 : shape[1] // 2 + 12] = True
    kspace = 10 * normal(coils, *shape) * mask[None, :, :, None]
    return kspace, mask, maps, 10 * normal(*shape), np.ones(shape, np.float32)


def on_gpu(given: tuple[np.ndarray, ...]) -> tuple[tuple[Any, ...], str]:
    """Return the arrays on the GPU, where CuPy can hold them, and where they are."""
    try:
        import cupy

        kspace, mask, *rest = given
        return (cupy.asarray(kspace), mask, *map(cupy.asarray, rest)), "arrays on the GPU"
    except ImportError:
        return given, "arrays in main memory"


def compare(
    engine: LoadedEngine,
    reference: LoadedEngine,
    given: tuple[Any, ...],
    case: str,
    repeats: int,
) -> list[dict[str, Any]]:
    """Return the rows of an engine that runs in PyTorch, and one in FP32 that need not."""
    from engines.unrolled_torch import UnrolledTorch

    manifest = engine.manifest
    schedule = Schedule.of(manifest.parameters)
    session: Any = engine.session
    whole = UnrolledTorch(session, manifest, schedule)
    single = UnrolledTorch(session, manifest, schedule, graphs=False)
    ours, theirs = [], []
    for _ in range(5):
        whole(*given), single(*given)
    for _ in range(repeats):
        ours.append(_seconds(lambda: whole(*given)))
        theirs.append(_seconds(lambda: single(*given)))
    rows = [
        row(
            "recon_gpu",
            case,
            f"p{part}",
            float(np.percentile(ours, part)),
            "PyTorch, without graph",
            float(np.percentile(theirs, part)),
            "lower",
            "s",
        )
        for part in (50, 99)
    ]
    host = [array.get() if hasattr(array, "get") else array for array in given]
    kspace, mask, maps, start, noise = host
    expected = unrolled(
        kspace,
        mask,
        maps,
        start,
        noise,
        reference.run,
        schedule,
        multiple_of=manifest.multiple_of,
    )
    found = whole(*given)[0]
    found = found.get() if hasattr(found, "get") else found
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return [*rows, row("recon_gpu", case, "nrmse", error, "none", None, "lower", "")]


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
