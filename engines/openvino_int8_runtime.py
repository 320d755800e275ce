"""OpenVINO in int8: a fast mode for CPUs, built at commissioning, with a gate of its own.

Never the default. `engines.int8` makes it from a site's own images and measures it against the fp32
engine on others; only where both are as good does it serve. What was built for other weights,
another version or processor is not found; at load it must give what it gave when it was measured.
Planes with a value beyond all that it was calibrated on, such as a bright spot beside a coil, would
be cut off: they go through the network in fp32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino

from engines.engine import Golden, Options
from engines.errors import EngineUnavailable
from engines.openvino_runtime import OpenVinoSession
from engines.store import PlanCache, Weights, arrays_of


@dataclass(frozen=True)
class Quality:
    """Against the fp32 engine, on images that were held out; the worst of them.

    Attributes
    ----------
    nrmse : float
        Root-mean-square difference of the images, over that of fp32.
    psnr_loss : float
        Decibel of PSNR against the truth that are lost; of magnitudes, peak 1.
    further : float
        As ``nrmse``, of what else the network puts out (its predicted error).
    images : int
        How many.
    """

    nrmse: float
    psnr_loss: float
    further: float
    images: int

    def __str__(self) -> str:
        return (
            f"worst of {self.images} held-out images: {100 * self.nrmse:.1f} % NRMSE to fp32,"
            f" {self.psnr_loss:.2f} dB of PSNR lost"
            + (f", predicted error {100 * self.further:.0f} % off" if self.further else "")
        )


GATE = Quality(nrmse=0.04, psnr_loss=0.3, further=0.25, images=8)
"""Most of each, and fewest images, to serve."""


def passes(quality: Quality) -> bool:
    """Return whether a quality is within `GATE`."""
    return (
        quality.nrmse <= GATE.nrmse
        and quality.psnr_loss <= GATE.psnr_loss
        and quality.further <= GATE.further
        and quality.images >= GATE.images
    )


class Int8Session(OpenVinoSession):
    """A `Session` on a quantised model.

    Parameters
    ----------
    model : tuple of bytes
        Its graph and its values, as OpenVINO keeps them.
    peaks : float32 (channel,)
        Largest magnitude in each channel of the planes which it was calibrated on.
    weights : Weights
        For what is beyond these.
    threads : int
    golden : tuple of 2 dict or None
    """

    precision = "int8"

    def __init__(
        self,
        model: tuple[bytes, bytes],
        peaks: np.ndarray,
        weights: Weights,
        threads: int,
        golden: Golden | None = None,
    ) -> None:
        super().__init__(model, threads)
        self.golden = golden
        self.description = self.description.replace("fp32", "int8 (fp32 where out of its range)")
        self._peaks = peaks
        self._beyond = OpenVinoSession((weights.files["model.onnx"],), threads)

    def __call__(self, inputs: Mapping[str, Any]) -> Sequence[Any]:
        if (peaks_of(inputs["planes"]) <= self._peaks).all():
            return super().__call__(inputs)
        return self._beyond(inputs)


def peaks_of(planes: np.ndarray) -> np.ndarray:
    """Return the largest magnitude in each channel of planes (batch, channel, y, x)."""
    return np.asarray(np.abs(planes).max(axis=(0, 2, 3)))


def open_session(weights: Weights, options: Options) -> Int8Session:
    """Open what was built for this network on this processor.

    Raises
    ------
    EngineUnavailable
        Nothing was, or it is not good enough.
    """
    if options.precision not in (None, "int8"):
        raise ValueError(f"expected int8, got {options.precision}")
    manifest = weights.manifest
    label = f"{manifest.name} {manifest.version}"
    plans = PlanCache(options.plans).find(key(weights))
    if not plans:
        raise EngineUnavailable(
            label,
            "no int8 model was built for it, for this processor and these versions: run `boreside"
            f" engine build {manifest.name} --runtime openvino-int8 --calibration FOLDER`",
        )
    quality = Quality(**plans[0].notes["quality"])
    if not passes(quality):
        raise EngineUnavailable(
            label, f"its int8 model is not good enough, expected {GATE}, found {quality}"
        )
    arrays = arrays_of(plans[0].content)
    expected = {spec.name: arrays[f"golden_{spec.name}"] for spec in manifest.outputs}
    return Int8Session(
        (arrays["model"].tobytes(), arrays["values"].tobytes()),
        arrays["peaks"],
        weights,
        options.threads,
        ({"planes": arrays["golden_input"]}, expected),
    )


def key(weights: Weights) -> dict[str, str]:
    """Return all that a quantised network depends on."""
    core = openvino.Core()
    return {
        "network": f"{weights.manifest.name} {weights.manifest.version}",
        "weights": weights.manifest.files["model.onnx"],
        "precision": "int8",
        "openvino": openvino.__version__,
        "processor": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
        "instructions": str(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
    }
