"""OpenVINO in int8: a fast mode for CPUs, built at commissioning, with a gate of its own.

Never the default. `engines.int8` makes it from a site's own images and measures it against the fp32
engine on others; only where both are as good does it serve. What was built for other weights,
another version or processor is not found; at load it must give what it gave when it was measured.
"""

from dataclasses import dataclass

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
    """A `Session` on a quantised model."""

    precision = "int8"

    def __init__(self, model: bytes, values: bytes, threads: int, golden: Golden | None) -> None:
        super().__init__((model, values), threads)
        self.golden = golden
        self.description = self.description.replace("fp32", "int8")


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
    inputs, _ = weights.golden()
    expected = {spec.name: arrays[f"golden_{spec.name}"] for spec in manifest.outputs}
    model, values = (arrays[name].tobytes() for name in ("model", "values"))
    return Int8Session(model, values, options.threads, (inputs, expected))


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
