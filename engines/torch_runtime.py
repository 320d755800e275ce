"""PyTorch: the reference, and the engine on a GPU in FP16 or BF16.

It runs `weights.npz` in the module that `engines.nets` builds from the manifest's architecture.
On a GPU every shape becomes one CUDA graph at its first run, so that warming up matters. Code that
runs an engine many times, as `engines.unrolled_torch` does, makes one graph of all of it with
`Graphs`, of `TorchSession.forward`.

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

Function = Callable[..., tuple[torch.Tensor, ...]]
"""From tensors to a tuple of tensors."""


class InPrecision(torch.nn.Module):
    """A network whose layers compute in another precision, with float32 inputs and outputs.

    What has parameters is cast, and what goes into it. The image from which the network takes its
    noise is not, or it would be rounded to the eight bits of BF16.
    """

    def __init__(self, module: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module.to(dtype)

        def cast(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return tuple(tensor.to(dtype) for tensor in inputs)

        for layer in module.modules():
            if next(layer.parameters(recurse=False), None) is not None:
                layer.register_forward_pre_hook(cast)

    def forward(self, planes: torch.Tensor, *scalars: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.module(planes, *scalars)
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

    def __init__(self, function: Function, *examples: torch.Tensor) -> None:
        self._inputs = [example.clone() for example in examples]
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            # Plans of cuFFT and choices of cuDNN are made here: a capture must not make them.
            for _ in range(3):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, with measurements of their own, go on allocating meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)


class Graphs:
    """A function of tensors: on a GPU as CUDA graphs, one for each shape; else as it is.

    Parameters
    ----------
    function : callable
        See `Captured`.
    wanted : bool
        False leaves graphs away on a GPU too.
    """

    def __init__(self, function: Function, wanted: bool = True) -> None:
        self._function = function
        self._wanted = wanted
        self._captured: OrderedDict[tuple[tuple[int, ...], ...], Captured] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the function's outputs, when they are there."""
        on_gpu = tensors[0].is_cuda
        with torch.inference_mode(), self._one_at_a_time:
            captured = self._capture(tensors) if on_gpu and self._wanted else self._function
            outputs = captured(*tensors)
            if on_gpu:
                torch.cuda.current_stream().synchronize()
        return outputs

    def _capture(self, tensors: tuple[torch.Tensor, ...]) -> Captured:
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        if shapes not in self._captured:
            self._captured[shapes] = Captured(self._function, *tensors)
            if len(self._captured) > GRAPHS:
                self._captured.popitem(last=False)
        self._captured.move_to_end(shapes)
        return self._captured[shapes]


class TorchSession:
    """A `Session` of tensors: any array in, arrays of the same kind out.

    Attributes
    ----------
    forward : callable
        The network as it is.
    device : torch.device
    graphs : bool
        On a GPU, and fit to be captured.

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

    takes_tensors = True
    golden = None

    def __init__(
        self,
        forward: Function,
        names: Sequence[str],
        device: torch.device,
        precision: str,
        description: str,
        graphs: bool = True,
    ) -> None:
        self.precision = precision
        self.description = description
        self.forward = forward
        self.device = device
        self.graphs = graphs and device.type == "cuda"
        self._names = tuple(names)
        self._run = Graphs(forward, graphs)

    def __call__(self, inputs: Mapping[str, Any]) -> Sequence[Any]:
        tensors = [as_tensor(inputs[name], self.device) for name in self._names]
        return [as_array(output, inputs["planes"]) for output in self._run(*tensors)]


def as_tensor(array: Any, device: torch.device) -> torch.Tensor:
    """Return an array of any kind as a tensor on a device, without a copy where it is there."""
    if array_api_compat.is_torch_array(array):
        return array.to(device)
    if array_api_compat.is_cupy_array(array):
        return torch.utils.dlpack.from_dlpack(array).to(device)
    array = np.asarray(array)
    return torch.as_tensor(array if array.flags.writeable else array.copy()).to(device)


def as_array(tensor: torch.Tensor, example: Any) -> Any:
    """Return a tensor as an array of the kind of another, without a copy where it is there."""
    if array_api_compat.is_torch_array(example):
        return tensor.to(example.device)
    if array_api_compat.is_numpy_array(example):
        return tensor.cpu().numpy()
    return array_api_compat.array_namespace(example).from_dlpack(tensor.contiguous())


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
