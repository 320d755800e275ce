"""OpenVINO on the CPU (the extra `openvino`), pinned to f32.

Left to itself OpenVINO takes bf16 where the hardware has it, and results would change with the
host.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import openvino

from engines.engine import Golden, Options
from engines.store import Weights


class OpenVinoSession:
    """A `Session` on OpenVINO.

    Parameters
    ----------
    model : tuple of bytes
        An ONNX model; or OpenVINO's own graph and its values.
    threads : int
    """

    precision = "fp32"
    takes_tensors = False
    golden: Golden | None = None

    def __init__(self, model: tuple[bytes, ...], threads: int) -> None:
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(*model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
            },
        )
        self._request = compiled.create_infer_request()
        self._one_at_a_time = threading.Lock()
        self.description = (
            f"OpenVINO {openvino.__version__}, CPU, fp32, {threads} thread"
            f"{'s' if threads > 1 else ''}"
        )

    def __call__(self, inputs: Mapping[str, Any]) -> Sequence[Any]:
        with self._one_at_a_time:
            return list(self._request.infer(dict(inputs)).values())


def open_session(weights: Weights, options: Options) -> OpenVinoSession:
    """Open a network's `model.onnx`."""
    if options.precision not in (None, "fp32"):
        raise ValueError(f"expected fp32, got {options.precision}")
    return OpenVinoSession((weights.files["model.onnx"],), options.threads)
