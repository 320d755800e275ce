"""Synthetic MR: relaxation maps of a multi-delay multi-echo measurement, and contrasts from them.

Simulated patients, held out by their seeds; every relaxation time varies from patient to patient,
and the flip angle over the body. Images are made in image space (extended phase graphs, two
compartments, partial volume, receive shading, complex noise), for k-space adds nothing here but
time. What is acquired sees the same flip angles; its trains have 150 degrees. SSIM (Wang et al.,
IEEE Trans Image Process 13 (2004) 600: Gaussian windows) is against the acquired contrast without
noise, after the best common scale; the range is the 99.9th percentile. "ssim" is that of whole
slices, the median of the patients and the lowest of them; "ssim, body" leaves out the air, which is
0 in synthetic images and noise in acquired ones. Beside that one stands an acquired contrast with
as much noise per voxel: one image, where the synthetic ones share eight, of a longer scan. SNR is
that of the proton density of CSF at the coil. The virtual scanner's inversions have the efficiency
which `gadgets.synthesis.synthetic_mr` expects: in a patient it differs, and a synthetic STIR will
be further off.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bench.rows import row
from gadgets.synthesis.maps import RelaxationMaps, fit_maps
from gadgets.synthesis.maps_signal import Acquisition
from gadgets.synthesis.synthetic_mr import synthesise
from scanner.epg import cpmg_echoes
from scanner.phantom import LumbarSpine
from scanner.phantom.variants_population import random_parameters
from scanner.quantitative import DELAYS_MS, ECHOES_MS, SATURATION_DEG, TR_MS
from scanner.sequence import TurboSpinEcho
from scanner.signal import steady_state_before_train
from scanner.tissues import Tissue, varied_tissue_table

HELD_OUT = 661_000
MATRIX, SLICES, WIDTH_MM = 192, 3, 300.0
SLICE_MM, APART_MM = 4.0, 8.8
EFFICIENCIES = np.linspace(0.7, 1.3, 13)
SNRS = (300.0, 150.0)
PEER = "acquired, same noise"

ACQUIRED = {
    "t1w": TurboSpinEcho(600.0, 10.0, 10.0, (150.0,) * 3, 250.0),
    "t2w": TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0),
    "pdw": TurboSpinEcho(4000.0, 20.0, 10.0, (150.0,) * 6, 250.0),
    "stir": TurboSpinEcho(4500.0, 50.0, 10.0, (150.0,) * 14, 250.0, ti_ms=250.0),
}
STIR_TI_MS = {1.5: 215.0, 3.0: 250.0}
"""Of the field, not of the patient, as at a scanner: the phantom's fat is nulled about there."""
QUANTITATIVE = Acquisition(
    delays_ms=tuple(delay for delay in DELAYS_MS for _ in ECHOES_MS),
    te_ms=ECHOES_MS * len(DELAYS_MS),
    tr_ms=TR_MS,
    saturation_deg=SATURATION_DEG,
    refocusing_deg=150.0,
    echo_spacing_ms=10.0,
    echo_train=12,
)

Signal = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""From T1 and T2 (tissue) and the efficiency of pulses to the signal of a unit proton density."""


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    patients = [Patient(number) for number in range(1 if quick else 6)]
    rows = _ssim_rows(patients, None) + _time_rows()
    for snr in SNRS[-1:] if quick else SNRS:
        rows += _ssim_rows(patients, snr)
    return rows


class Patient:
    """A simulated patient under the quantitative and the acquired sequences, without noise.

    Attributes
    ----------
    quantitative : float64 (contrast, z, y, x)
    sequences : dict of TurboSpinEcho
    acquired : dict of float64 (z, y, x)
    fat_fraction : float32 (z, y, x)
    body : bool (z, y, x)
    """

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng((HELD_OUT, number))
        spine = LumbarSpine(random_parameters(rng))
        field_t = float(rng.choice([1.5, 3.0]))
        self._table = varied_tissue_table(field_t, rng)
        stir = replace(ACQUIRED["stir"], ti_ms=STIR_TI_MS[field_t])
        self.sequences = {**ACQUIRED, "stir": stir}
        phase, offset = rng.uniform(0, 2 * np.pi, 2), rng.uniform(-0.05, 0.05)
        self._planes = [
            _Plane(spine, (z - SLICES // 2) * APART_MM + depth, phase, offset)
            for z in range(SLICES)
            for depth in (-SLICE_MM / 4, SLICE_MM / 4)
        ]
        near = np.arange(MATRIX)[::-1] * WIDTH_MM / MATRIX
        self._shading = np.exp(-near / rng.uniform(150, 300))
        self.quantitative = np.stack(
            [self._image(_prepared(contrast)) for contrast in range(len(QUANTITATIVE.te_ms))]
        )
        self.acquired = {
            name: np.abs(self._image(_turbo(sequence))) for name, sequence in self.sequences.items()
        }
        whole = self._density(lambda fat: np.ones_like(fat))
        part = self._density(lambda fat: fat) / np.maximum(whole, 1e-6)
        self.fat_fraction = part.astype(np.float32)
        self.body = whole > 0.05

    def _image(self, signal: Signal) -> np.ndarray:
        tables = np.stack([self._signals(signal, value) for value in EFFICIENCIES])
        return self._stacked([plane.image(tables) for plane in self._planes]) * self._shading

    def _density(self, share: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        densities = np.array([tissue.pd for tissue in self._table])
        return self._stacked(
            [_pixels(densities[p.labels] * p.density * share(p.fat)) for p in self._planes]
        )

    def _signals(self, signal: Signal, efficiency: float) -> np.ndarray:
        """Return signals (water and fat, tissue)."""
        density = _column(self._table, "pd")
        return np.stack(
            [
                density
                * signal(
                    np.maximum(_column(self._table, f"{kind}t1_ms"), 1e-3),
                    np.maximum(_column(self._table, f"{kind}t2_ms"), 1e-3),
                    efficiency,
                )
                for kind in ("", "fat_")
            ]
        )

    def _stacked(self, planes: list[np.ndarray]) -> np.ndarray:
        return np.stack(planes).reshape(SLICES, 2, MATRIX, MATRIX).mean(axis=1)


class _Plane:
    """The phantom in a sagittal plane, four points to a pixel."""

    def __init__(self, spine: LumbarSpine, x_mm: float, phase: np.ndarray, offset: float) -> None:
        place = ((np.arange(2 * MATRIX) + 0.5) / (2 * MATRIX) - 0.5) * WIDTH_MM
        down, front = np.meshgrid(place, place, indexing="ij")
        points = np.stack([np.full_like(down, x_mm), front + 5, -down - 15], axis=-1)
        tissue = spine.sample(points.astype(np.float32))
        self.labels, self.density, self.fat = tissue.labels, tissue.density, tissue.fat_fraction
        waves = np.cos(points[..., 1] / 60 + phase[0]) * np.cos(points[..., 2] / 120 + phase[1])
        self._efficiency = 1 + 0.12 * waves + offset

    def image(self, tables: np.ndarray) -> np.ndarray:
        """Return the signal per pixel, of tables (efficiency, water and fat, tissue)."""
        place = (self._efficiency - EFFICIENCIES[0]) / (EFFICIENCIES[1] - EFFICIENCIES[0])
        node = np.clip(place.astype(int), 0, len(EFFICIENCIES) - 2)
        over = place - node
        water, fat = (
            tables[node, kind, self.labels] * (1 - over)
            + tables[node + 1, kind, self.labels] * over
            for kind in (0, 1)
        )
        return _pixels(self.density * ((1 - self.fat) * water + self.fat * fat))


def _pixels(points: np.ndarray) -> np.ndarray:
    return np.asarray(points.reshape(MATRIX, 2, MATRIX, 2).mean(axis=(1, 3)))


def _column(table: tuple[Tissue, ...], name: str) -> np.ndarray:
    return np.array([getattr(tissue, name) for tissue in table], float)


def _prepared(contrast: int) -> Signal:
    """Signal of a contrast of the quantitative measurement, without Boreside's own model of it."""
    delay, echo = QUANTITATIVE.delays_ms[contrast], round(QUANTITATIVE.te_ms[contrast] / 10) - 1

    def signal(t1: np.ndarray, t2: np.ndarray, efficiency: float) -> np.ndarray:
        kept = np.cos(np.deg2rad(SATURATION_DEG) * efficiency)
        before = 1 - np.exp(-(TR_MS - QUANTITATIVE.train_ms - delay) / t1)
        recovered = 1 - (1 - kept * before) * np.exp(-delay / t1)
        train = np.full(QUANTITATIVE.echo_train, 150.0 * efficiency)
        return np.asarray(recovered * cpmg_echoes(t1, t2, train, 10.0, 90 * efficiency)[:, echo])

    return signal


def _turbo(sequence: TurboSpinEcho) -> Signal:
    def signal(t1: np.ndarray, t2: np.ndarray, efficiency: float) -> np.ndarray:
        angles = np.array(sequence.refocusing_deg) * efficiency
        train = cpmg_echoes(t1, t2, angles, sequence.echo_spacing_ms, 90 * efficiency)
        return np.asarray(steady_state_before_train(t1, sequence) * train[:, sequence.centre_echo])

    return signal


def _ssim_rows(patients: list[Patient], snr: float | None) -> list[dict[str, Any]]:
    noise = f"SNR {snr:g}" if snr else "no noise"
    rows = []
    for known in (False, True):
        scores = [
            score(patient, snr, known, np.random.default_rng(number))
            for number, patient in enumerate(patients)
        ]
        fat = "fat fraction known" if known else "one tissue per voxel"
        for name in ACQUIRED:
            case = f"{name}, {fat}, {noise}"
            values = np.array([found[name] for found in scores])
            middle, lowest = np.median(values, axis=0).tolist(), float(values[:, 0].min())
            peer = middle[2] if snr else None
            for measure, ours, other in (
                ("ssim", middle[0], None),
                ("ssim, lowest", lowest, None),
                ("ssim, body", middle[1], peer),
            ):
                rows.append(row("synth_mr", case, measure, ours, PEER, other, "higher", ""))
    return rows


def score(
    patient: Patient, snr: float | None, fat_known: bool, rng: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """Return SSIMs of each contrast: whole, body, and body if acquired with as much noise.

    Parameters
    ----------
    patient : Patient
    snr : float or None
        None for next to no noise.
    fat_known : bool
    rng : numpy.random.Generator
    """
    scale = snr or 1e4
    shape = patient.quantitative.shape
    noise = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    images = (patient.quantitative * scale * np.exp(0.5j) + noise).astype(np.complex64)
    fat = patient.fat_fraction if fat_known else None
    pixel = WIDTH_MM / MATRIX
    maps = fit_maps(images, QUANTITATIVE, 1.0, fat, (APART_MM, pixel, pixel))
    scores = {}
    for name, sequence in patient.sequences.items():
        truth = patient.acquired[name] * scale
        made = synthesise(maps, sequence.tr_ms, sequence.te_ms, sequence.ti_ms)
        again = truth + rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape)
        peer = _ssim(np.abs(again), truth, patient.body)[1]
        scores[name] = (*_ssim(made, truth, patient.body), peer)
    return scores


def _ssim(image: np.ndarray, truth: np.ndarray, body: np.ndarray) -> tuple[float, float]:
    """Return the SSIM of whole slices and of the body."""
    from skimage.metrics import structural_similarity

    scaled = image * (np.vdot(image, truth) / np.vdot(image, image))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    span = float(np.percentile(truth, 99.9))
    maps = np.stack(
        [
            structural_similarity(a, b, data_range=span, full=True, **options)[1]
            for a, b in zip(scaled, truth, strict=True)
        ]
    )
    return float(maps.mean()), float(maps[body].mean())


def _time_rows() -> list[dict[str, Any]]:
    """A change of contrast at the console, and the maps before it: 15 slices of 320 x 320."""
    rng = np.random.default_rng(0)
    shape = (15, 320, 320)

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, shape).astype(np.float32)

    ones = np.ones(shape, np.float32)
    maps = RelaxationMaps(draw(200, 4000), draw(20, 2000), draw(1, 100), ones, ones > 0, draw(0, 1))
    change = [_seconds(lambda: synthesise(maps, 4500, 50, 250)) for _ in range(5)]
    images = rng.standard_normal((8, *shape)).astype(np.float32)
    half = np.broadcast_to(np.arange(320) < 160, shape)
    signal = np.array([_prepared(c)(np.array([900.0]), np.array([60.0]), 1.0)[0] for c in range(8)])
    images += 100 * signal[:, None, None, None].astype(np.float32) * half
    data = images.astype(np.complex64)
    fit_maps(data[:, :1], QUANTITATIVE)
    fit = _seconds(lambda: fit_maps(data, QUANTITATIVE))
    case = "15 x 320 x 320"
    return [
        row("synth_mr", case, "seconds", float(np.median(change)), "none", None, "lower", "s"),
        row(
            "synth_mr",
            f"{case}, half of it tissue",
            "seconds, maps",
            fit,
            "none",
            None,
            "lower",
            "s",
        ),
    ]


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
