"""The golden exam: one simulated slice whose truth is known, through the chain a network serves in.

A golden vector shows that a runtime computes what the weights say. This shows that what they say is
an image: ellipses (as of Shepp and Logan), eight coils, noise with its scan, every second line. It
is simulated, and passing it says nothing about patients.
"""

from dataclasses import dataclass

import ismrmrd.xsd as xsd
import numpy as np

from agent import chains, engines
from agent.config import Settings
from gadgets.fft import fftc
from protocols.header import Header
from protocols.mrd_types import ACQUISITION_HEADER, AcquisitionFlag, ImageMessage, ReadoutBlock

CHAINS = {"recon": "dl", "denoiser": "denoise"}
"""Networks that have a golden exam, and the configuration that uses each."""

N, COILS, CALIBRATION, SNR = 128, 8, 24, 12.0
_ELLIPSES = (
    (0.3, 0.0, 0.0, 3.0, 3.0),
    (1.0, 0.0, 0.0, 0.72, 0.9),
    (-0.6, 0.0, 0.0, 0.62, 0.8),
    (0.3, -0.22, 0.0, 0.16, 0.4),
    (0.2, 0.25, 0.1, 0.12, 0.3),
    (0.5, 0.0, 0.45, 0.2, 0.12),
    (0.4, 0.1, -0.5, 0.05, 0.05),
)
"""Signal, centre (x, y) and half axes (x, y); the field of view is from -1 to 1.
The first one fills it: where nothing is, SENSE leaves less noise than denoisers are trained for."""


class NoImage(Exception):
    """The chain gave no image, or one without the network."""


@dataclass(frozen=True)
class _Scan:
    header: Header
    blocks: tuple[ReadoutBlock, ...]
    truth: np.ndarray


def error(settings: Settings, chain: str) -> float:
    """Return the error of the golden exam's image: relative root mean square, best scale.

    Parameters
    ----------
    settings : Settings
        Whose newest networks are used.
    chain : str
        A configuration of `agent.chains`.

    Raises
    ------
    NoImage
    """
    scan = _scan()
    before = engines.used()
    engines.use(settings)
    try:
        gadget = chains.build(chain, scan.header, "float32")
        images = [item for item in gadget(iter(scan.blocks)) if isinstance(item, ImageMessage)]
    finally:
        engines.use(settings.model_copy(update={"engines": before}))
    if not images:
        raise NoImage(f"{chain}: expected an image of the golden exam, got none")
    if "BoresideFallback" in images[0].attributes:
        raise NoImage(f"{chain}: the golden exam's image was made without the network")
    found = np.abs(np.asarray(images[0].data, np.float64)).reshape(N, N)
    if not np.isfinite(found).all() or not found.any():
        raise NoImage(f"{chain}: expected finite pixels, got others, or zeros only")
    scale = float((found * scan.truth).sum() / (found**2).sum())
    return float(np.linalg.norm(scale * found - scan.truth) / np.linalg.norm(scan.truth))


def _scan() -> _Scan:
    y, x = np.meshgrid(np.linspace(-1, 1, N), np.linspace(-1, 1, N), indexing="ij")
    picture = np.zeros((N, N))
    for signal, x0, y0, a, b in _ELLIPSES:
        picture += signal * (((x - x0) / a) ** 2 + ((y - y0) / b) ** 2 <= 1)
    angle = 2 * np.pi * np.arange(COILS)[:, None, None] / COILS
    distance = (x - 1.3 * np.cos(angle)) ** 2 + (y - 1.3 * np.sin(angle)) ** 2
    maps = np.exp(-distance / 2 + 1j * (angle + 0.5 * x * np.cos(angle)))
    images = picture * maps
    images *= SNR / np.abs(images[:, picture > 0]).mean()
    wide = np.pad(images, ((0, 0), (0, 0), (N // 2, N // 2)))
    rng = np.random.default_rng(7)
    kspace = fftc(wide.astype(np.complex64), (1, 2)) + _noise(rng, wide.shape)
    line = np.arange(N)
    near = np.abs(line - N // 2) < CALIBRATION // 2
    lines = line[((line - N // 2) % 2 == 0) | near]
    headers = _headers(len(lines))
    headers["idx"]["kspace_encode_step_1"] = lines
    both = AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING
    headers["flags"] = np.where(near[lines], np.uint64(both), np.uint64(0))
    last = AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_MEASUREMENT
    headers["flags"][-1] |= np.uint64(last)
    samples = np.ascontiguousarray(kspace[:, lines].transpose(1, 0, 2), np.complex64)
    noise = _headers(16)
    noise["flags"] = np.uint64(AcquisitionFlag.IS_NOISE_MEASUREMENT)
    first = ReadoutBlock(noise, _noise(rng, (16, COILS, 2 * N)))
    truth = np.sqrt((np.abs(images) ** 2).sum(0))
    return _Scan(_header(), (first, ReadoutBlock(headers, samples)), truth)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]


def _headers(count: int) -> np.ndarray:
    headers = np.zeros(count, ACQUISITION_HEADER)
    headers["version"] = 1
    headers["number_of_samples"], headers["center_sample"] = 2 * N, N
    headers["active_channels"] = headers["available_channels"] = COILS
    headers["sample_time_us"] = 5
    headers["read_dir"], headers["phase_dir"] = (1, 0, 0), (0, 1, 0)
    headers["slice_dir"] = (0, 0, 1)
    headers["scan_counter"] = np.arange(count)
    return headers


def _header() -> Header:
    def space(x: int, fov: float) -> xsd.encodingSpaceType:
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=x, y=N, z=1),
            fieldOfView_mm=xsd.fieldOfViewMm(x=fov, y=256, z=4),
        )

    lines = xsd.limitType(minimum=0, maximum=N - 1, center=N // 2)
    factor = xsd.accelerationFactorType(kspace_encoding_step_1=2, kspace_encoding_step_2=1)
    parallel = xsd.parallelImagingType(
        accelerationFactor=factor, calibrationMode=xsd.calibrationModeType.EMBEDDED
    )
    return xsd.ismrmrdHeader(
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=123_200_000),
        encoding=[
            xsd.encodingType(
                encodedSpace=space(2 * N, 512),
                reconSpace=space(N, 256),
                encodingLimits=xsd.encodingLimitsType(kspace_encoding_step_1=lines),
                trajectory=xsd.trajectoryType.CARTESIAN,
                parallelImaging=parallel,
            )
        ],
    )
