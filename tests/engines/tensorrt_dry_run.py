"""How TensorRT would take a network, as the Python part of torch-tensorrt 2.13 plans it, on a CPU.

``python tensorrt_dry_run.py SCRATCH ARCHITECTURES PRECISION`` prints, as JSON, how many operators
an exported network has, how many of them have a converter, how many engines it becomes and what is
left to PyTorch. It runs a copy of the package without its libraries; an empty module stands where
TensorRT is imported, for nothing is converted. So it says what is planned, not that it works.
"""

import json
import shutil
import sys
import types
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch


class Nothing(type):
    """A class whose attributes are all such classes; one for each name."""

    def __getattr__(cls, name):
        return named(name)

    def __call__(cls, *_, **__):
        return cls


@cache
def named(name):
    if name.startswith("__") or name == "tensorrt_rtx":
        raise AttributeError(name)
    return Nothing(name, (), {})


class NoTensorRT(types.ModuleType):
    __version__, __path__, __file__ = "11.0.0.0", [], "none"

    def __getattr__(self, name):
        return named(name)


def import_copy(scratch: Path):
    """Import the package without what needs TensorRT's libraries and a GPU."""
    package = Path(find_spec("torch_tensorrt").origin).parent
    skipped = shutil.ignore_patterns("lib", "bin", "include", "*.so", "__pycache__")
    shutil.copytree(package, scratch / "torch_tensorrt", ignore=skipped)
    sys.path.insert(0, str(scratch))
    sys.modules["tensorrt"] = NoTensorRT("tensorrt")
    sys.modules["dllist"] = types.ModuleType("dllist")
    sys.modules["dllist"].dllist = lambda: []
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.current_device = lambda: 0
    torch.cuda.mem_get_info = lambda: (1 << 36, 1 << 36)
    properties = types.SimpleNamespace(name="none", major=9, minor=0, total_memory=1 << 36)
    torch.cuda.get_device_properties = lambda *_: properties
    if not hasattr(torch._C, "_CudaDeviceProperties"):
        torch._C._CudaDeviceProperties = type("_CudaDeviceProperties", (), {})
    import torch_tensorrt

    return torch_tensorrt


class Broken(torch.nn.Module):
    """What no engine takes: a network and a function without a converter after it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes):
        return torch.special.bessel_j1(self.network(planes)[0])


def dry_run(torch_tensorrt, module) -> dict:
    """Export and compile a network as `engines.tensorrt_runtime` does, up to the conversion."""
    compiler, trackers = torch_tensorrt.dynamo._compiler, []
    compiler.to_torch_device = lambda _: torch.device("cpu")
    compiler.dryrun_stats_display = lambda tracker, _: trackers.append(tracker)
    sides = {0: torch.export.Dim("batch", min=1, max=8)}
    sides |= {axis: 8 * torch.export.Dim(f"n{axis}", min=8, max=64) for axis in (2, 3)}
    planes = torch.zeros(2, 3, 64, 96)
    program = torch.export.export(module, (planes,), dynamic_shapes=(sides,))
    low, best, high = (1, 3, 64, 64), (1, 3, 320, 320), (8, 3, 512, 512)
    given = torch_tensorrt.Input(min_shape=low, opt_shape=best, max_shape=high, dtype=torch.float32)
    torch_tensorrt.dynamo.compile(program, arg_inputs=[given], dryrun=True, min_block_size=1)
    (tracker,) = trackers
    return {
        "operators": tracker.total_ops_in_graph,
        "convertible": tracker.supported_ops_in_graph,
        "engines": tracker.tensorrt_graph_count,
        "in_torch": list(tracker.to_run_in_torch),
    }


def main(scratch: str, architectures: str, precision: str) -> None:
    """Print a list: one entry for each architecture, and one for what TensorRT cannot take."""
    from engines.nets import build
    from engines.torch_runtime import PRECISIONS, InPrecision

    torch_tensorrt = import_copy(Path(scratch))
    dtype = PRECISIONS[precision]
    modules = [InPrecision(build(a).eval(), dtype) for a in json.loads(architectures)]
    modules.append(Broken(modules[-1]))
    print(json.dumps([dry_run(torch_tensorrt, module) for module in modules]))


if __name__ == "__main__":
    main(*sys.argv[1:])
