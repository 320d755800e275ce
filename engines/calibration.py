"""A site's images as work for a network: to set a lower precision by, and to hold it against fp32.

For a denoiser, images with noise of known strength; for a regulariser, simulated multi-coil scans
that it reconstructs through all its steps. What is calibrated on and what is held against are
different images.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engines.manifest import Manifest
from engines.training.images import find_files, finish, read_stack
from engines.training.multicoil import Scan, scan
from engines.training.prepare import prepare
from engines.unrolled import Schedule, unrolled

FACTORS, SNR = (2, 3, 4), (5.0, 10.0, 20.0, 40.0)
MOST_FILES = 64

Place = tuple[Path, int]
"""A file, and the number of one image in it."""

Outputs = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""An engine's ``outputs``: from planes (batch, 3, y, x)."""


class Case(NamedTuple):
    """One image.

    Attributes
    ----------
    truth : complex64 (1, y, x)
        Its 99th percentile is 1.
    run : callable
        From an engine's ``outputs`` to the image that comes of it, and to what else the network put
        out in the last step, by name.
    """

    truth: np.ndarray
    run: Callable[[Outputs], tuple[np.ndarray, Mapping[str, np.ndarray]]]


def cases(
    manifest: Manifest, folder: Path, calibrating: int = 24, held_out: int = 8
) -> tuple[Iterator[Case], Iterator[Case]]:
    """Return images to calibrate on, and others to measure with.

    Parameters
    ----------
    manifest : Manifest
    folder : Path
        Of images, as for training (`engines.training.images`).
    calibrating, held_out : int

    Raises
    ------
    ValueError
        There are fewer than two images, or a file is none.
    """
    first, second = split(folder)
    return (
        _made(manifest, first, range(calibrating)),
        _made(manifest, second, range(calibrating, calibrating + held_out)),
    )


def split(folder: Path) -> tuple[list[Place], list[Place]]:
    """Return where the images of a folder are: those to calibrate on, and those held out.

    A quarter is held out, and what lies together stays together.
    """
    files = find_files(folder)
    files = files[:: -(-len(files) // MOST_FILES)]
    places = [(file, number) for file in files for number in range(len(read_stack(file)))]
    if len(places) < 2:
        raise ValueError(f"{folder}: expected at least two images, found {len(places)}")
    first = min(len(places) - 1, round(0.75 * len(places)))
    return places[:first], places[first:]


def _made(manifest: Manifest, places: list[Place], seeds: range) -> Iterator[Case]:
    """Yield one image for every seed, from places that are spread evenly."""
    for number, seed in enumerate(seeds):
        yield _case(manifest, seed, *places[number * len(places) // len(seeds)])


def _case(manifest: Manifest, seed: int, file: Path, place: int) -> Case:
    rng = np.random.default_rng((seed, 8))
    image = finish(rng, read_stack(file)[place].astype(np.complex64)).image
    snr = SNR[seed % len(SNR)]
    if manifest.kind == "denoiser":
        return _noisy(rng, image, snr)
    factor = FACTORS[seed % len(FACTORS)]
    one = scan(rng, image[32:-32, 32:-32], int(rng.integers(6, 13)), factor, snr)
    return _undersampled(one, snr, manifest)


def _noisy(rng: np.random.Generator, image: np.ndarray, snr: float) -> Case:
    noise = rng.standard_normal((*image.shape, 2), np.float32).view(np.complex64)[..., 0]
    noisy = image + noise / np.float32(snr)
    sigma = np.full(image.shape, 1 / snr, np.float32)
    planes = np.stack([noisy.real, noisy.imag, sigma])[None]

    def run(outputs: Outputs) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        found = outputs(planes)
        return found["planes"][:, 0] + 1j * found["planes"][:, 1], found

    return Case(image[None], run)


def _undersampled(one: Scan, snr: float, manifest: Manifest) -> Case:
    schedule, prepared = Schedule.of(manifest.parameters), prepare(one)

    def run(outputs: Outputs) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        latest: dict[str, np.ndarray] = {}

        def network(planes: np.ndarray) -> np.ndarray:
            latest.update(outputs(planes))
            return latest["planes"]

        image = unrolled(
            one.kspace,
            one.mask,
            one.maps,
            *prepared,
            network,
            schedule,
            multiple_of=manifest.multiple_of,
            threads=1,
        )
        return image / np.float32(snr), latest

    return Case(one.truth / np.float32(snr), run)
