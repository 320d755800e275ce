"""SENSE: from calibration lines and undersampled k-space to an image, sensitivity maps included.

Ours (the gadget `Reconstruct`), BART (`bart ecalib`, `bart pics`) and SigPy (`EspiritCalib`,
`SenseRecon`) take turns on the same simulated k-space with noise (see `bench.simulated`). Each peer
first gets the regularization, of three, and the fewest iterations with which its error is within
1 % of its best; ours is as shipped and knows nothing of the truth. Rows of the error stand beside
those of the time: it is that of the magnitude within the object, relative to the truth, after the
best common scale. Time compares programs only where their errors are alike.

BART's time is that of its two processes, which includes their start and their own files; a second
row takes off twice the time of `bart version`. Ours starts from k-space too: the transform along
the readout, which Boreside does as lines arrive, is counted. So is coil compression, which
Boreside does by default; rows "all coils" are without.
"""

import math
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.rows import row
from bench.simulated import MultiCoil, multicoil, sampling
from gadgets import fft
from gadgets.coil_maps import CoarseMaps
from gadgets.items import Frame, FrameKey
from gadgets.reconstruct import Reconstruct
from gadgets.sense import sense
from protocols.mrd_types import ACQUISITION_HEADER

THREADS = 2
LINES = 24
REGULARIZATION = (1e-3, 1e-2, 5e-2)
ITERATIONS = (3, 5, 7, 10, 15, 20, 30)
WITHIN = 1.01


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    before = fft.threads()
    fft.set_threads(THREADS)
    try:
        if quick:
            return _case(12, 192, 4, 100, rounds=2)
        cases = [(12, 320, 2, 100), (16, 320, 3, 100), (16, 320, 4, 100), (16, 320, 4, 300)]
        return [result for case in cases for result in _case(*case, rounds=5)]
    finally:
        fft.set_threads(before)


def bart_seconds(kspace: np.ndarray) -> float:
    """Return how long `bart ecalib` and `bart pics` take together, with 10 iterations.

    Parameters
    ----------
    kspace : complex64 (coil, z, y, x)
        K-space along all axes, zero where not acquired.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_cfl(Path(folder) / "kspace", kspace)
        began = time.perf_counter()
        _bart_maps(Path(folder))
        _bart_image(Path(folder), REGULARIZATION[0], 10)
        return time.perf_counter() - began


def _case(
    coils: int, size: int, acceleration: int, snr: float, rounds: int
) -> list[dict[str, Any]]:
    data = multicoil(coils, (1, size, size), snr=snr)
    mask = sampling(size, 1, (acceleration, 1), LINES)
    kspace = fft.fftc(data.kspace * mask[None, :, :, None], (3,))
    name = f"{coils} coils, {size}x{size}, R={acceleration}, {LINES} calibration lines, SNR {snr:g}"
    with tempfile.TemporaryDirectory() as folder:
        programs: dict[str, Callable[[], Any]] = {
            "ours": lambda: _ours(kspace, mask),
            "ours, all coils": lambda: _all_coils(kspace, mask),
        }
        if shutil.which("bart"):
            programs["bart"] = _tuned_bart(Path(folder), kspace, data)
            programs["bart start"] = lambda: _run_bart(Path(folder), "version")
        if (sigpy := _tuned_sigpy(kspace, data)) is not None:
            programs["sigpy"] = sigpy
        seconds, errors = _take_turns(programs, data, rounds)

    def result(measure: str, ours: float, peer_name: str, peer: float | None) -> dict[str, Any]:
        unit = "" if measure.startswith("error") else "s"
        return row("sense", name, measure, ours, peer_name, peer, "lower", unit)

    rows = []
    for peer in ("bart", "sigpy"):
        for kind in ("", ", all coils"):
            name_of_ours = f"ours{kind}"
            rows.append(result(f"seconds{kind}", seconds[name_of_ours], peer, seconds.get(peer)))
            rows.append(result(f"error{kind}", errors[name_of_ours], peer, errors.get(peer)))
    if "bart" in seconds:
        less = seconds["bart"] - 2 * seconds["bart start"]
        rows.append(result("seconds, process start taken off", seconds["ours"], "bart", less))
    return rows


def _take_turns(
    programs: dict[str, Callable[[], Any]], data: MultiCoil, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median seconds of each program, and the error of its image."""
    errors: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for name, program in programs.items():
        image = program()
        if image is not None:
            errors[name] = _error(image, data)
    for _ in range(rounds):
        for name, program in programs.items():
            began = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}, errors


def _error(image: np.ndarray, data: MultiCoil) -> float:
    truth = np.abs(data.image[0])
    signal = truth > 0.05 * truth.max()
    found, wanted = np.abs(image).reshape(truth.shape)[signal], truth[signal]
    found = found * (found @ wanted) / (found @ found)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def _ours(kspace: np.ndarray, mask: np.ndarray) -> Any:
    frame = Frame(
        kspace=fft.ifftc(kspace, (3,)),
        mask=mask,
        key=FrameKey(0, 0, 0, 0, 0, 0),
        header=np.zeros(1, ACQUISITION_HEADER)[0],
        readout_mask=np.ones(kspace.shape[3], bool),
        snr_units=True,
    )
    return next(iter(Reconstruct()(iter([frame])))).data


def _all_coils(kspace: np.ndarray, mask: np.ndarray) -> Any:
    hybrid = fft.ifftc(kspace, (3,))
    shape, centre = hybrid.shape[1:], hybrid.shape[2] // 2
    coarse = CoarseMaps.of(hybrid[:, :, centre - LINES // 2 : centre + LINES // 2])
    regularization = math.prod(shape) / coarse.typical**2
    return sense(
        hybrid, mask, coarse.interpolate(shape), coarse.prior(shape), regularization=regularization
    )


def _tuned(reconstruct: Callable[[float, int], np.ndarray], data: MultiCoil) -> tuple[float, int]:
    """Return the regularization and the fewest iterations that come near the best error."""
    errors = {(r, i): _error(reconstruct(r, i), data) for r in REGULARIZATION for i in ITERATIONS}
    enough = WITHIN * min(errors.values())
    return min((key for key in errors if errors[key] <= enough), key=lambda key: key[1])


def _tuned_bart(folder: Path, kspace: np.ndarray, data: MultiCoil) -> Callable[[], np.ndarray]:
    _write_cfl(folder / "kspace", kspace)
    _bart_maps(folder)
    best = _tuned(lambda r, i: _read_cfl(_bart_image(folder, r, i)), data)

    def both() -> np.ndarray:
        _bart_maps(folder)
        return _read_cfl(_bart_image(folder, *best))

    return both


def _bart_maps(folder: Path) -> None:
    _run_bart(folder, "ecalib", "-m", "1", "-r", str(LINES), "kspace", "maps")


def _bart_image(folder: Path, regularization: float, iterations: int) -> Path:
    options = ["-l2", "-r", str(regularization), "-i", str(iterations)]
    _run_bart(folder, "pics", *options, "kspace", "maps", "image")
    return folder / "image"


def _run_bart(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    subprocess.run(
        ["bart", *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
    )


def _write_cfl(path: Path, kspace: np.ndarray) -> None:
    """Write (coil, z, y, x) as BART's x, y, z, coil, first axis fastest."""
    sizes = " ".join(str(n) for n in reversed(kspace.shape))
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{sizes}\n")
    np.ascontiguousarray(kspace, np.complex64).tofile(path.with_suffix(".cfl"))


def _read_cfl(path: Path) -> np.ndarray:
    sizes = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(sizes[::-1])


def _tuned_sigpy(kspace: np.ndarray, data: MultiCoil) -> Callable[[], np.ndarray] | None:
    try:
        import sigpy.mri
    except ImportError:
        return None
    lines = kspace[:, 0]

    def maps() -> Any:
        return sigpy.mri.app.EspiritCalib(lines, calib_width=LINES, show_pbar=False).run()

    def image(sensitivities: Any, regularization: float, iterations: int) -> Any:
        return sigpy.mri.app.SenseRecon(
            lines, sensitivities, lamda=regularization, max_iter=iterations, show_pbar=False
        ).run()

    known = maps()
    best = _tuned(lambda r, i: image(known, r, i), data)
    return lambda: image(maps(), *best)
