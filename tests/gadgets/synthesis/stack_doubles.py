"""Images of a simulated patient's stacks, as they leave reconstruction: T1w, T2w and STIR."""

from functools import cache

import numpy as np

from bench.synthetic import PIXEL_MM, SIDE, SLICE_MM, T1, T2, Scene, draws
from gadgets.items import FrameKey, Image
from protocols.header import Header, parse_header
from protocols.mrd_types import ACQUISITION_HEADER
from scanner.phantom import LumbarSpine, SpineParameters

SLICES, SNR = 2, 40.0
TIMES = {"t1": (600, 10, 0), "t2": (3500, 100, 0), "stir": (4500, 50, 250)}


@cache
def magnitudes(seed: int = 5) -> dict[str, np.ndarray]:
    """Sagittal slices of a healthy patient without noise, (z, y, x), by weighting; p98 is 1."""
    rng = np.random.default_rng(seed)
    spine = LumbarSpine(SpineParameters(seed=seed))
    drawn = draws(rng, 45.0)
    fine = 2 * SIDE
    place = ((np.arange(fine) + 0.5) / fine - 0.5) * SIDE * PIXEL_MM
    down, front = np.meshgrid(-place, place, indexing="ij")
    found: dict[str, list[np.ndarray]] = {name: [] for name in TIMES}
    for number in range(SLICES):
        depth = np.full_like(down, (number - SLICES // 2) * 2 * SLICE_MM)
        scene = Scene(spine, np.stack([depth, front, down - 20], axis=-1), drawn)
        for name, image in (
            ("t1", scene.image(T1)),
            ("t2", scene.image(T2)),
            ("stir", scene.stir()),
        ):
            found[name].append(image / np.percentile(image, 98))
    return {name: np.stack(part).astype(np.float32) for name, part in found.items()}


def header(weighting: str, exam: str | None = "1.2.3") -> Header:
    """MRD header of a measurement."""
    tr, te, ti = TIMES[weighting]
    fov = SIDE * PIXEL_MM
    study = f"<studyInformation><studyInstanceUID>{exam}</studyInstanceUID></studyInformation>"
    space = (
        f"<matrixSize><x>{SIDE}</x><y>{SIDE}</y><z>1</z></matrixSize><fieldOfView_mm>"
        f"<x>{fov}</x><y>{fov}</y><z>{SLICE_MM}</z></fieldOfView_mm>"
    )
    return parse_header(
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"{study if exam else ''}"
        "<experimentalConditions><H1resonanceFrequency_Hz>127000000</H1resonanceFrequency_Hz>"
        f"</experimentalConditions><encoding><encodedSpace>{space}</encodedSpace>"
        f"<reconSpace>{space}</reconSpace><encodingLimits/><trajectory>cartesian</trajectory>"
        f"</encoding><sequenceParameters><TR>{tr}</TR><TE>{te}</TE>"
        f"{f'<TI>{ti}</TI>' if ti else ''}</sequenceParameters></ismrmrdHeader>"
    )


def images(
    weighting: str, snr: float = SNR, shift_mm: tuple[float, float] = (0.0, 0.0), seed: int = 5
) -> list[Image]:
    """Slices in SNR units; ``shift_mm`` is where the stack lies: across the slices, in them."""
    rng = np.random.default_rng(len(weighting))
    made = []
    for number, plane in enumerate(magnitudes(seed)[weighting]):
        noise = rng.standard_normal(plane.shape) + 1j * rng.standard_normal(plane.shape)
        readout = np.zeros(1, ACQUISITION_HEADER)[0]
        readout["read_dir"], readout["phase_dir"] = (0, 1, 0), (0, 0, -1)
        readout["slice_dir"] = (1, 0, 0)
        across = (number - SLICES // 2) * 2 * SLICE_MM + shift_mm[0]
        readout["position"] = (across, 0, -20 + shift_mm[1])
        made.append(
            Image(
                data=(plane * snr * np.exp(0.4j) + noise).astype(np.complex64)[None],
                key=FrameKey(0, number, 0, 0, 0, 0),
                header=readout,
                field_of_view=(SIDE * PIXEL_MM, SIDE * PIXEL_MM, SLICE_MM),
                quantity="complex",
                snr_units=True,
                noise_map=np.ones((1, *plane.shape), np.float32),
            )
        )
    return made
