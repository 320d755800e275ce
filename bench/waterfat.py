"""Water-fat: fat fractions, swaps and time of a slice, beside the `mri-fatwater` package.

Slices of the digital phantom, simulated in image space (partial volume, T2*, six-peak fat, complex
noise), in its own field scaled until it reaches 300 Hz within the body. SNR is that of the median
voxel of the body in the first echo. A voxel counts whose own SNR there is 8 or more; it is swapped
where its fat fraction is off by more than 0.5. PDFF bias is the mean error.

The peer (Berglund and Skorpil, Magn Reson Med 78 (2017) 941; GPL) runs in a process of its own: the
environment variable ``MRI_FATWATER_PYTHON`` names an interpreter that has it. It gets its shipped
parameters, with magnitude discrimination; its time is that of its separation alone. Both use one
thread. It takes even echo spacing only; where it cannot, or is not there, it is null.
"""

import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.rows import row
from gadgets.synthesis.water_fat import separate
from scanner.phantom import LumbarSpine
from scanner.phantom.variants_population import random_parameters
from scanner.sequence import GYROMAGNETIC_MHZ_PER_T
from scanner.signal import fat_phase
from scanner.tissues import tissue_table

HELD_OUT = 771_000
WIDTH_MM, SLICE_MM = 400.0, 5.0
REACH_HZ = 300.0
LEAST_SNR = 8.0
VISIBLE_MS = 2.0
"""T2* below which a tissue is gone before the first echo."""
PEER = "mri-fatwater"
PEER_SCRIPT = """
import os, sys, time
import mri_fatwater, numpy as np, yaml
from mri_fatwater import fatwater
data = np.load(sys.argv[1])
folder = os.path.join(os.path.dirname(mri_fatwater.__file__), "configs")
with open(os.path.join(folder, "algoParams.yml")) as text:
    how = yaml.safe_load(text)
how.update(output=["ff"], magnitudeDiscrimination=True)
scan = {"B0": float(data["field_t"]), "t": [float(t) for t in data["te_s"]],
        "voxelsize": [float(data["mm"]), float(data["mm"]), 5.0]}
fat = {"watCS": 4.7, "fatCS": [5.3, 4.31, 2.76, 2.1, 1.3, 0.9],
       "relAmps": [0.048, 0.039, 0.004, 0.128, 0.693, 0.087]}
began = time.perf_counter()
found = fatwater.separate(data=data["echoes"], data_params=scan, algo_params=how, model_params=fat)
seconds = time.perf_counter() - began
np.savez(sys.argv[2], pdff=np.asarray(found["ff"]) / 100, seconds=seconds)
"""


@dataclass(frozen=True)
class Case:
    """A simulated slice: complex64 echoes (echo, z, y, x) and the true fat fraction (z, y, x)."""

    echoes: np.ndarray
    te_s: np.ndarray
    field_t: float
    pdff: np.ndarray
    counts: np.ndarray
    mm: float


CASES = [
    (1.5, (2.87, 6.07, 9.27)),
    (1.5, (1.6, 3.2, 4.8, 6.4)),
    (1.5, (1.2, 3.2, 5.2, 7.2, 9.2, 11.2)),
    (3.0, (1.15, 2.3, 3.45)),
    (3.0, (1.1, 2.0, 2.9, 3.8)),
    (3.0, (1.3, 2.35, 3.4, 4.45, 5.5, 6.55)),
    (3.0, (1.2, 2.5, 3.4)),
    (3.0, (1.2, 2.3)),
]


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    if quick:
        return _rows(3.0, (1.15, 2.3, 3.45), 20.0, "sagittal", 64)
    return [
        line
        for field_t, te_ms in CASES
        for snr, plane in ((10.0, "axial"), (10.0, "coronal"), (50.0, "sagittal"))
        for line in _rows(field_t, te_ms, snr, plane, 128)
    ]


def _rows(
    field_t: float, te_ms: tuple[float, ...], snr: float, plane: str, matrix: int
) -> list[dict[str, Any]]:
    case = simulated(plane, matrix, field_t, te_ms, snr, seed=int(snr) + len(te_ms))
    times = ", ".join(f"{te:g}" for te in te_ms)
    name = f"{plane} {matrix}x{matrix}, {field_t:g} T, TE {times} ms, SNR {snr:g}, {REACH_HZ:g} Hz"
    pdff, seconds = _ours(case)
    ours = _judged(case, pdff, seconds)
    found = _peer(case)
    peer = _judged(case, *found) if found else {}
    units = {"pdff_bias_percent": "%", "swap_fraction": "", "seconds": "s"}
    lines = []
    for measure, unit in units.items():
        mine, theirs = ours[measure], peer.get(measure)
        # No ratio where we have none at all.
        line = row("waterfat", name, measure, mine, PEER, theirs if mine else None, "lower", unit)
        lines.append(line | {"peer": theirs})
    return lines


def _judged(case: Case, pdff: np.ndarray, seconds: float) -> dict[str, float]:
    error = (pdff.reshape(case.pdff.shape) - case.pdff)[case.counts]
    return {
        "pdff_bias_percent": abs(100 * float(error.mean())),
        "swap_fraction": float(np.mean(np.abs(error) > 0.5)),
        "seconds": seconds,
    }


def _ours(case: Case) -> tuple[np.ndarray, float]:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        maps = separate(case.echoes, case.te_s, case.field_t, (SLICE_MM, case.mm, case.mm))
        times.append(time.perf_counter() - began)
    return np.asarray(maps.pdff), statistics.median(times)


def _peer(case: Case) -> tuple[np.ndarray, float] | None:
    python = os.environ.get("MRI_FATWATER_PYTHON")
    if not python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "case.npz", Path(folder) / "found.npz"
        np.savez(given, echoes=case.echoes, te_s=case.te_s, field_t=case.field_t, mm=case.mm)
        command = [python, "-c", PEER_SCRIPT, str(given), str(found)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        done = subprocess.run(command, env=os.environ | threads, capture_output=True, check=False)
        if done.returncode:
            return None
        with np.load(found) as result:
            return result["pdff"], float(result["seconds"])


def simulated(
    plane: str, matrix: int, field_t: float, te_ms: tuple[float, ...], snr: float, seed: int
) -> Case:
    """Simulate one slice of a phantom.

    Parameters
    ----------
    plane : str
        "axial", "sagittal" or "coronal".
    matrix : int
    field_t : float
    te_ms : tuple of float
    snr : float
    seed : int
        Of the patient and of the noise.
    """
    rng = np.random.default_rng(seed)
    patient = LumbarSpine(random_parameters(np.random.default_rng(HELD_OUT + seed)))
    te_s, step = np.array(te_ms) * 1e-3, WIDTH_MM / matrix
    axes = {"axial": ((1, 0, 0), (0, 1, 0)), "sagittal": ((0, 1, 0), (0, 0, -1)),
            "coronal": ((1, 0, 0), (0, 0, -1))}  # fmt: skip
    across, down = (np.array(direction, float) for direction in axes[plane])
    centre = np.array([0.0, 0.0, 0.0] if plane != "axial" else [0.0, -40.0, 60.0])
    place = (np.arange(matrix) - matrix // 2) * step
    points = centre + place[:, None, None] * down + place[:, None] * across
    decay, density = _tissues(te_s, field_t)
    water, fat = np.zeros((2, len(te_s), matrix, matrix))
    whole, fat_amount = np.zeros((2, matrix, matrix))
    for one, two in np.ndindex(2, 2):
        within = points + ((one - 0.5) * across + (two - 0.5) * down) * step / 2
        tissue = patient.sample(within.astype(np.float32))
        amount = tissue.density * density[tissue.labels] / 4
        whole += amount
        fat_amount += amount * tissue.fat_fraction
        left = decay[:, tissue.labels]
        fat += left * amount * tissue.fat_fraction
        water += left * amount * (1 - tissue.fat_fraction)
    body = whole > 0.1
    hz = patient.b0_ppm(points.astype(np.float32)) * GYROMAGNETIC_MHZ_PER_T * field_t
    hz = hz - np.median(hz[body])
    hz *= REACH_HZ / np.abs(hz[body]).max()
    y, x = np.meshgrid(place / WIDTH_MM, place / WIDTH_MM, indexing="ij")
    turn = np.exp(2j * np.pi * hz * te_s[:, None, None] + 1j * (1 + 2 * y + x))
    signal = (water + fat * fat_phase(np.array(te_ms), field_t)[:, None, None]) * turn
    first = (water + fat)[0] * snr / np.median((water + fat)[0][body])
    signal *= snr / np.median((water + fat)[0][body])
    noise = rng.standard_normal((2, *signal.shape))
    echoes = (signal + noise[0] + 1j * noise[1])[:, None].astype(np.complex64)
    pdff = np.divide(fat_amount, whole, out=np.zeros_like(whole), where=whole > 0)
    counts = body & (first >= min(LEAST_SNR, snr))
    return Case(echoes, te_s, field_t, pdff[None], counts[None], step)


def _tissues(te_s: np.ndarray, field_t: float) -> tuple[np.ndarray, np.ndarray]:
    """Return decay (echo, tissue) and the proton density that is visible (tissue)."""
    table = tissue_table(field_t)
    t2star = np.array([max(tissue.t2star_ms, 1e-3) for tissue in table])
    density = np.array([tissue.pd for tissue in table]) * (t2star > VISIBLE_MS)
    return np.exp(-te_s[:, None] * 1e3 / t2star), density
