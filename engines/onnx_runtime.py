"""ONNX Runtime on the CPU, fp32: the embedded default, without PyTorch.

Its threads wait without spinning, so that it stays well-behaved when a core is busy with something
else, and its results do not depend on how many there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime

from engines.engine import Options
from engines.store import Weights


class OnnxSession:
    """A `Session` on ONNX Runtime."""

    precision = "fp32"
    takes_tensors = False
    golden = None

    def __init__(self, model: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.description = (
            f"ONNX Runtime {onnxruntime.__version__}, CPU, fp32, {threads} thread"
            f"{'s' if threads > 1 else ''}"
        )

    def __call__(self, inputs: Mapping[str, Any]) -> Sequence[Any]:
        outputs: Sequence[Any] = self._session.run(None, dict(inputs))
        return outputs


def open_session(weights: Weights, options: Options) -> OnnxSession:
    """Open a network's `model.onnx`."""
    if options.precision not in (None, "fp32"):
        raise ValueError(f"expected fp32, got {options.precision}")
    return OnnxSession(weights.files["model.onnx"], options.threads)
