"""PyTorch: the reference, and the engine on a GPU in FP16 or BF16.

It runs `weights.npz` in the module that `engines.nets` builds from the manifest's architecture.
On a GPU every shape becomes one CUDA graph at its first run, so that warming up matters. Code that
runs an engine many times, such as an unrolled reconstruction, makes one graph of all of it with
`Captured`; the engine notices and leaves its own graphs away.

Arrays of a GPU go in and out through DLPack, without a copy; NumPy arrays are moved.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import array_api_compat
import numpy as np
import torch

from engines.engine import Options
from engines.store import Weights, arrays_of

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

GRAPHS = 8
"""Shapes whose CUDA graph is kept; each holds its own memory."""


class InPrecision(torch.nn.Module):
    """A network in another precision, with float32 inputs and outputs."""

    def __init__(self, module: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module.to(dtype)
        self._dtype = dtype

    def forward(self, planes: torch.Tensor, *scalars: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.module(planes.to(self._dtype), *(s.to(self._dtype) for s in scalars))
        outputs = found if isinstance(found, tuple) else (found,)
        return tuple(output.float() for output in outputs)


class Captured:
    """One CUDA graph of a function of tensors: replayed, it costs one launch.

    Parameters
    ----------
    function : callable
        From tensors to a tuple of tensors. Whatever decides on its way decides now, for good.
    *examples : tensor
        On the GPU, of the shapes to come.
    """

    def __init__(
        self, function: Callable[..., tuple[torch.Tensor, ...]], *examples: torch.Tensor
    ) -> None:
        self._inputs = [example.clone() for example in examples]
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            # Plans of cuFFT and choices of cuDNN are made here: a capture must not make them.
            for _ in range(3):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)


class TorchSession:
    """A `Session` of tensors: any array in, arrays of the same kind out.

    Parameters
    ----------
    forward : callable
        From planes, and scalars in the order of ``names``, float32 tensors, to a tuple of such.
    names : sequence of str
        Inputs, in that order.
    device : torch.device
    precision, description : str
    graphs : bool
        Make one CUDA graph for each shape, where the device is a GPU.
    """

    on_gpu = True

    def __init__(
        self,
        forward: Callable[..., tuple[torch.Tensor, ...]],
        names: Sequence[str],
        device: torch.device,
        precision: str,
        description: str,
        graphs: bool = True,
    ) -> None:
        self.precision = precision
        self.description = description
        self._forward = forward
        self._names = tuple(names)
        self._device = device
        self._with_graphs = graphs and device.type == "cuda"
        self._graphs: OrderedDict[tuple[int, ...], Captured] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def __call__(self, inputs: Mapping[str, Any]) -> Sequence[Any]:
        planes = inputs["planes"]
        tensors = [as_tensor(inputs[name], self._device) for name in self._names]
        with torch.inference_mode(), self._one_at_a_time:
            outputs = self._run(tensors)
        if array_api_compat.is_torch_array(planes):
            return outputs
        if array_api_compat.is_numpy_array(planes):
            return [output.cpu().numpy() for output in outputs]
        xp = array_api_compat.array_namespace(planes)
        return [xp.from_dlpack(output.contiguous()) for output in outputs]

    def _run(self, tensors: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        if self._device.type == "cpu" or torch.cuda.is_current_stream_capturing():
            return self._forward(*tensors)
        outputs = self._graph(tensors)(*tensors) if self._with_graphs else self._forward(*tensors)
        torch.cuda.current_stream().synchronize()
        return outputs

    def _graph(self, tensors: list[torch.Tensor]) -> Captured:
        shape = tuple(tensors[0].shape)
        if shape not in self._graphs:
            self._graphs[shape] = Captured(self._forward, *tensors)
            if len(self._graphs) > GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(shape)
        return self._graphs[shape]


def as_tensor(array: Any, device: torch.device) -> torch.Tensor:
    """Return an array of any kind as a tensor on a device, without a copy where it is there."""
    if array_api_compat.is_numpy_array(array) or np.isscalar(array):
        return torch.as_tensor(np.asarray(array, np.float32)).to(device)
    tensor = (
        array if array_api_compat.is_torch_array(array) else torch.utils.dlpack.from_dlpack(array)
    )
    return tensor.to(device)


def build_module(weights: Weights) -> torch.nn.Module:
    """Return the network's module with its parameters, in float32 on the CPU.

    Raises
    ------
    ValueError
        The store has no `weights.npz` for it.
    """
    if "weights.npz" not in weights.files:
        raise ValueError("expected weights.npz beside model.onnx, to run it in PyTorch")
    from engines.nets import build

    module: torch.nn.Module = build(weights.manifest.architecture)
    state = arrays_of(weights.files["weights.npz"])
    module.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    module.eval()
    return module


def open_session(weights: Weights, options: Options) -> TorchSession:
    """Open a network: on the GPU, in FP16 by default, where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = options.precision or ("fp16" if device.type == "cuda" else "fp32")
    if precision not in PRECISIONS:
        raise ValueError(f"expected a precision of {', '.join(PRECISIONS)}, got {precision}")
    if device.type == "cpu":
        torch.set_num_threads(options.threads)
    elif precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False
    module = InPrecision(build_module(weights), PRECISIONS[precision])
    module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(planes: torch.Tensor, *scalars: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found: tuple[torch.Tensor, ...] = module(
            planes.contiguous(memory_format=torch.channels_last), *scalars
        )
        return found

    names = [spec.name for spec in weights.manifest.inputs]
    where = "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
    description = f"PyTorch {torch.__version__}, {where}, {precision}"
    return TorchSession(forward, names, device, precision, description)
