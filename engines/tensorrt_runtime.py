"""TensorRT through torch-tensorrt: engines built at commissioning, never in the scan path.

Not run yet: no machine of this project has had TensorRT's libraries. What is here follows
torch-tensorrt 2.11 to 2.13 as documented; `boreside engine verify` and ``pytest -m gpu`` are to
prove it on the first machine that has them.

The network is cast to its precision and compiled as it is (strongly typed), all of it into one
engine or not at all. Real planes go in and out; Fourier transforms and data consistency stay with
whoever calls. Each profile of shapes is one plan in `engines.store.PlanCache`: static ones for the
matrices of the protocols, a dynamic one for the rest. A plan that was built with other weights,
another version, GPU or driver is not found, and the engine says that it must be built.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from engines.engine import TOLERANCE, Options
from engines.errors import EngineUnavailable
from engines.store import Plan, PlanCache, Weights
from engines.torch_runtime import PRECISIONS, InPrecision, TorchSession, build_module

Shape = tuple[int, int, int]

DEFAULT_PRECISION = "fp16"


@dataclass(frozen=True)
class Profile:
    """Shapes (batch, y, x) that one engine takes; a static one has only one."""

    minimum: Shape
    optimum: Shape
    maximum: Shape

    @classmethod
    def static(cls, shape: Shape) -> "Profile":
        """Return the profile of one shape."""
        return cls(shape, shape, shape)

    @property
    def is_static(self) -> bool:
        return self.minimum == self.maximum

    def takes(self, shape: Sequence[int]) -> bool:
        """Return whether an engine of this profile takes planes of this shape (batch, y, x)."""
        return all(low <= n <= high for low, n, high in zip(self.minimum, shape, self.maximum))


class Compiler(Protocol):
    """What is asked of TensorRT; `TorchTensorRT` is the one, tests have another."""

    device: torch.device

    def environment(self) -> dict[str, str]:
        """Return all that a plan depends on besides the network: versions, GPU, driver."""

    def compile(self, program: Any, inputs: list[Any], precision: str) -> bytes:
        """Return the plan of an exported program, for the (minimum, optimum, maximum) of inputs."""

    def names(self, plan: bytes) -> tuple[list[str], list[str]]:
        """Return the names of a plan's inputs and outputs, in their order."""

    def load(
        self, plan: bytes, inputs: list[str], outputs: list[str]
    ) -> Callable[..., torch.Tensor | Sequence[torch.Tensor]]:
        """Return a plan as a function of tensors."""


class TorchTensorRT:
    """The package torch-tensorrt, and the GPU that it compiles for.

    Raises
    ------
    ImportError
        The package, its libraries or a GPU is missing.
    """

    def __init__(self, timing_cache: Path | None = None) -> None:
        if not torch.cuda.is_available():
            raise ImportError("PyTorch finds no GPU")
        if find_spec("torch_tensorrt") is None or find_spec("tensorrt") is None:
            raise ImportError("torch-tensorrt is not installed (extra gpu)")
        try:
            import tensorrt
            import torch_tensorrt
        except Exception as error:
            # Without its libraries torch-tensorrt raises a bare Exception, not an ImportError.
            raise ImportError(f"torch-tensorrt cannot be imported: {error}") from error
        self._tensorrt, self._torch_tensorrt = tensorrt, torch_tensorrt
        self._timing_cache = timing_cache
        self.device = torch.device("cuda", torch.cuda.current_device())

    def environment(self) -> dict[str, str]:
        properties = torch.cuda.get_device_properties(self.device)
        return {
            "torch": str(torch.__version__),
            "torch-tensorrt": str(self._torch_tensorrt.__version__),
            "tensorrt": str(self._tensorrt.__version__),
            "cuda": str(torch.version.cuda),
            "driver": str(_driver_version()),
            "gpu": properties.name,
            "compute capability": f"{properties.major}.{properties.minor}",
        }

    def compile(self, program: Any, inputs: list[Any], precision: str) -> bytes:
        specified = [
            self._torch_tensorrt.Input(shape=low, dtype=torch.float32)
            if low == high
            else self._torch_tensorrt.Input(
                min_shape=low, opt_shape=best, max_shape=high, dtype=torch.float32
            )
            for low, best, high in inputs
        ]
        where = {"timing_cache_path": str(self._timing_cache)} if self._timing_cache else {}
        # No precision argument: it would be ignored without a word. The types are the module's.
        plan = self._torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            program,
            arg_inputs=specified,
            device=self.device,
            disable_tf32=precision == "fp32",
            require_full_compilation=True,
            **where,
        )
        return bytes(plan)

    def names(self, plan: bytes) -> tuple[list[str], list[str]]:
        logger = self._tensorrt.Logger(self._tensorrt.Logger.WARNING)
        engine = self._tensorrt.Runtime(logger).deserialize_cuda_engine(plan)
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        is_input = [
            engine.get_tensor_mode(name) == self._tensorrt.TensorIOMode.INPUT for name in names
        ]
        return (
            [name for name, given in zip(names, is_input) if given],
            [name for name, given in zip(names, is_input) if not given],
        )

    def load(
        self, plan: bytes, inputs: list[str], outputs: list[str]
    ) -> Callable[..., torch.Tensor | Sequence[torch.Tensor]]:
        from torch_tensorrt.dynamo.runtime import TorchTensorRTModule

        module: Callable[..., torch.Tensor | Sequence[torch.Tensor]] = TorchTensorRTModule(
            plan, input_binding_names=inputs, output_binding_names=outputs, name="boreside"
        )
        return module


def build(
    weights: Weights,
    profiles: Sequence[Profile],
    options: Options,
    compiler: Compiler | None = None,
) -> list[Path]:
    """Compile a network for some profiles of shapes, check each engine, and keep it.

    The shape of the golden vector is compiled too, with which an engine proves itself at load.

    Returns
    -------
    list of Path
        The plans.

    Raises
    ------
    ImportError
        TensorRT is not here.
    ValueError
        The network's module is not in the store, or an engine differs from it by too much.
    """
    cache = PlanCache(options.plans)
    compiler = compiler or TorchTensorRT(cache.folder / "timing.bin")
    precision = options.precision or DEFAULT_PRECISION
    cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    reference = build_module(weights)
    golden = weights.golden()[0]["planes"]
    own = Profile.static((golden.shape[0], *golden.shape[2:]))
    key = _key(weights, precision, compiler)
    paths = []
    for profile in dict.fromkeys([own, *profiles]):
        module = InPrecision(build_module(weights), PRECISIONS[precision]).to(compiler.device)
        # A batch of 1 would be taken for a constant.
        batch = min(max(profile.optimum[0], 2), profile.maximum[0])
        example = _example(weights, (batch, *profile.optimum[1:]))
        program = torch.export.export(
            module,
            tuple(tensor.to(compiler.device) for tensor in example),
            dynamic_shapes=_dynamic_shapes(weights, profile),
        )
        plan = compiler.compile(program, _bounds(weights, profile), precision)
        inputs, outputs = compiler.names(plan)
        run = compiler.load(plan, inputs, outputs)
        with torch.inference_mode():
            found = _tuple(run(*(tensor.to(compiler.device) for tensor in example)))
            expected = _tuple(reference(*example))
        for one, other in zip(found, expected, strict=True):
            difference = float(torch.linalg.norm(one.cpu() - other) / torch.linalg.norm(other))
            if not difference <= TOLERANCE[precision]:
                raise ValueError(
                    f"the engine for {profile} differs from its network by {difference:.2g},"
                    f" expected at most {TOLERANCE[precision]:g}: it is not kept"
                )
        notes = {"inputs": inputs, "outputs": outputs, "profile": astuple(profile)}
        paths.append(cache.put(Plan({**key, "profile": str(profile)}, notes, plan)))
    return paths


def open_session(
    weights: Weights, options: Options, compiler: Compiler | None = None
) -> TorchSession:
    """Open the plans which were built for this network, here.

    Raises
    ------
    ImportError
        TensorRT is not here.
    EngineUnavailable
        No plan fits.
    """
    compiler = compiler or TorchTensorRT()
    precision = options.precision or DEFAULT_PRECISION
    key = _key(weights, precision, compiler)
    engines = [
        (
            Profile(*map(tuple, plan.notes["profile"])),
            compiler.load(plan.content, plan.notes["inputs"], plan.notes["outputs"]),
        )
        for plan in PlanCache(options.plans).find(key)
    ]
    label = f"{weights.manifest.name} {weights.manifest.version}"
    if not engines:
        raise EngineUnavailable(
            label,
            f"no engine was built for it in {precision}, for this GPU and these versions:"
            f" run `boreside engine build {weights.manifest.name}`",
        )
    engines.sort(key=lambda engine: not engine[0].is_static)

    def forward(planes: torch.Tensor, *scalars: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch, _, *matrix = planes.shape
        for profile, run in engines:
            if profile.takes((batch, *matrix)):
                return _tuple(run(planes.contiguous(), *scalars))
            if profile.takes((1, *matrix)):
                slices = [_tuple(run(plane[None].contiguous(), *scalars)) for plane in planes]
                return tuple(torch.cat(outputs) for outputs in zip(*slices))
        raise EngineUnavailable(
            label,
            f"no engine was built for planes {tuple(planes.shape)}:"
            f" run `boreside engine build {weights.manifest.name}` with that shape",
        )

    versions = compiler.environment()
    description = f"TensorRT {versions['tensorrt']}, {versions['gpu']}, {precision}"
    names = [spec.name for spec in weights.manifest.inputs]
    return TorchSession(forward, names, compiler.device, precision, description, graphs=False)


def _key(weights: Weights, precision: str, compiler: Compiler) -> dict[str, str]:
    return {
        "network": f"{weights.manifest.name} {weights.manifest.version}",
        "weights": weights.manifest.files["weights.npz"],
        "architecture": repr(weights.manifest.architecture),
        "precision": precision,
        **compiler.environment(),
    }


def _example(weights: Weights, shape: Shape) -> tuple[torch.Tensor, ...]:
    """Return inputs of one shape: the golden vector's content, repeated and cut to it."""
    golden, _ = weights.golden()
    planes = torch.as_tensor(golden["planes"])
    batch, y, x = shape
    repeats = [
        -(-n // have) for n, have in zip((batch, 1, y, x), (planes.shape[0], 1, *planes.shape[2:]))
    ]
    tiled = planes.repeat(repeats)[:batch, :, :y, :x].contiguous()
    names = [spec.name for spec in weights.manifest.inputs]
    return tuple(tiled if name == "planes" else torch.as_tensor(golden[name]) for name in names)


def _bounds(weights: Weights, profile: Profile) -> list[tuple[Any, Any, Any]]:
    """Return (minimum, optimum, maximum) of the shape of every input."""
    shapes = zip(*(_example(weights, shape) for shape in astuple(profile)))
    return [tuple(tuple(tensor.shape) for tensor in group) for group in shapes]  # type: ignore


def _dynamic_shapes(weights: Weights, profile: Profile) -> dict[str, Any] | None:
    if profile.is_static:
        return None
    n = weights.manifest.multiple_of
    axes: dict[int, Any] = {}
    for axis, name, low, high in zip((0, 2, 3), "byx", profile.minimum, profile.maximum):
        if low == high:
            continue
        step = n if axis else 1
        axes[axis] = step * torch.export.Dim(name, min=low // step, max=high // step)
    scalars = (None,) * (len(weights.manifest.inputs) - 1)
    return {"planes": axes, **({"scalars": scalars} if scalars else {})}


def _tuple(found: torch.Tensor | Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return (found,) if isinstance(found, torch.Tensor) else tuple(found)


def _driver_version() -> int:
    """Return the CUDA version of the driver, such as 13000."""
    version = ctypes.c_int(0)
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    return version.value
