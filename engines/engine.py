"""The one engine interface: a network of the store, on one of the runtimes.

`load_engine` verifies the weights, opens them on a runtime and lets the engine prove itself on its
golden vector; what fails raises `EngineUnavailable`. `engine_or_reason` is for a chain, which must
go on: it returns an engine that says why it cannot serve. A runtime is a file
`engines/<name>_runtime.py` with a function ``open_session(weights, options)``; its package is
imported only when it is asked for.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

import array_api_compat
import numpy as np

from engines.errors import EngineUnavailable, NotReproduced
from engines.manifest import Manifest
from engines.store import Store, Weights

RUNTIMES = ("onnx", "openvino", "openvino-int8", "torch", "tensorrt")

DEFAULT_RUNTIME = "onnx"

TOLERANCE = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 5e-3, "int8": 1e-3}
"""Relative root-mean-square difference to the golden vector that a precision may have; in int8, to
what it was when its quality was measured."""

FURTHER = 4
"""Times as much may what is not the image differ, such as its predicted error."""

Golden = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


class Engine(Protocol):
    """A network that is ready to run, or says why it is not.

    Attributes
    ----------
    name, version, kind : str
    runtime : str
        What runs it: package, version, device, precision.
    manifest : Manifest or None
        None where it could not be read.
    takes_tensors : bool
        Runs in PyTorch, which `engines.unrolled_torch` can take a whole reconstruction to.
    reason : str or None
        Why it cannot serve; None where it can.
    last_run_ms : float
        Duration of the latest run, to the moment its result was there.
    """

    name: str
    version: str
    kind: str
    runtime: str
    takes_tensors: bool
    reason: str | None
    last_run_ms: float

    @property
    def manifest(self) -> Manifest | None: ...

    def warm_up(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        """Run once for every new shape (batch, y, x): the first image is not to be the slowest."""

    def run(self, planes: Any, **scalars: Any) -> Any:
        """Run the network.

        Parameters
        ----------
        planes : float32 (batch, channel, y, x)
            NumPy, CuPy or PyTorch; y and x multiples of the manifest's ``multiple_of``.
        **scalars
            Further inputs by name.

        Returns
        -------
        float32 (batch, channel, y, x)
            The output ``planes``, of the kind and on the device of the input.

        Raises
        ------
        ValueError
            The input is not what the manifest says.
        EngineUnavailable
            The engine cannot serve.
        """

    def outputs(self, planes: Any, **scalars: Any) -> dict[str, Any]:
        """As `run`, with all outputs by name."""


@dataclass(frozen=True)
class Options:
    """How a runtime is to run.

    Attributes
    ----------
    threads : int
        CPU threads.
    precision : str or None
        "fp32", "fp16", "bf16" or "int8"; None for the runtime's own.
    plans : Path or None
        Folder of compiled engines (`engines.store.PlanCache`).
    """

    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    precision: str | None = None
    plans: Any = None


class Session(Protocol):
    """A network opened on a runtime.

    Attributes
    ----------
    description : str
    precision : str
        A key of `TOLERANCE`.
    takes_tensors : bool
        Takes and returns arrays of any kind, as tensors of PyTorch; else NumPy arrays.
    golden : tuple of 2 dict or None
        Its own golden vector, inputs and outputs, where that of the weights is not for it.
    """

    description: str
    precision: str
    takes_tensors: bool
    golden: Golden | None

    def __call__(self, inputs: Mapping[str, Any]) -> Sequence[Any]:
        """Run; returns the outputs in the manifest's order, when they are there.

        Must be safe from several threads.
        """


class LoadedEngine:
    """An `Engine`: weights and the session that runs them.

    Attributes
    ----------
    session : Session
    """

    def __init__(self, weights: Weights, session: Session) -> None:
        self.manifest: Manifest = weights.manifest
        self.name = self.manifest.name
        self.version = self.manifest.version
        self.kind: str = self.manifest.kind
        self.runtime = session.description
        self.reason: str | None = None
        self.last_run_ms = 0.0
        self.session = session
        self.takes_tensors = session.takes_tensors
        self._golden = session.golden or weights.golden()
        self._warm: set[tuple[int, int, int]] = set()

    def warm_up(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        inputs, _ = self._golden
        scalars = {name: value for name, value in inputs.items() if name != "planes"}
        for batch, y, x in set(shapes) - self._warm:
            self.run(np.ones((batch, inputs["planes"].shape[1], y, x), np.float32), **scalars)
            self._warm.add((batch, y, x))

    def run(self, planes: Any, **scalars: Any) -> Any:
        return self.outputs(planes, **scalars)["planes"]

    def outputs(self, planes: Any, **scalars: Any) -> dict[str, Any]:
        self._check(planes, scalars)
        xp = array_api_compat.array_namespace(planes)
        inputs: dict[str, Any] = {
            name: np.asarray(value, np.float32) for name, value in scalars.items()
        }
        if self.takes_tensors:
            inputs["planes"] = planes
        else:
            inputs["planes"] = np.asarray(array_api_compat.to_device(planes, "cpu"))
        start = time.perf_counter_ns()
        results = self.session(inputs)
        self.last_run_ms = (time.perf_counter_ns() - start) / 1e6
        found = {spec.name: value for spec, value in zip(self.manifest.outputs, results)}
        if array_api_compat.is_numpy_array(planes) or self.takes_tensors:
            return found
        device = array_api_compat.device(planes)
        return {name: xp.asarray(value, device=device) for name, value in found.items()}

    def prove(self) -> float:
        """Run the golden vector; returns the greatest relative difference of its outputs.

        Raises
        ------
        NotReproduced
            It is beyond the tolerance of the precision.
        """
        inputs, expected = self._golden
        scalars = {name: value for name, value in inputs.items() if name != "planes"}
        found = self.outputs(inputs["planes"], **scalars)
        worst = 0.0
        for name, reference in expected.items():
            if name not in found or found[name].shape != reference.shape:
                raise NotReproduced(
                    f"{self.name} {self.version}",
                    f"{self.runtime}: expected an output {name} {reference.shape} of the golden"
                    f" vector, got {[(key, value.shape) for key, value in found.items()]}",
                )
            limit = TOLERANCE[self.session.precision] * (1 if name == "planes" else FURTHER)
            difference = _difference(name, found[name], reference)
            worst = max(worst, difference)
            if not difference <= limit:
                raise NotReproduced(
                    f"{self.name} {self.version}",
                    f"{self.runtime}: its output {name} differs from the golden vector by"
                    f" {difference:.2g}, expected at most {limit:g}: use another runtime, and"
                    " report this one",
                )
        return worst

    def _check(self, planes: Any, scalars: Mapping[str, Any]) -> None:
        channels = len(self.manifest.inputs[0].channels)
        n = self.manifest.multiple_of
        shape = tuple(planes.shape)
        if len(shape) != 4 or shape[1] != channels or shape[2] % n or shape[3] % n:
            raise ValueError(
                f"{self.name}: expected planes (batch, {channels}, y, x) with y and x multiples of"
                f" {n}, got {shape}"
            )
        if str(planes.dtype).rpartition(".")[2] != "float32":
            raise ValueError(f"{self.name}: expected float32 planes, got {planes.dtype}")
        expected = {spec.name for spec in self.manifest.inputs} - {"planes"}
        if set(scalars) != expected:
            raise ValueError(
                f"{self.name}: expected the inputs planes and {sorted(expected)}, got planes and"
                f" {sorted(scalars)}"
            )


def _difference(name: str, found: np.ndarray, reference: np.ndarray) -> float:
    """Return the relative root-mean-square difference; of a logarithm, that of what it is of."""
    values = [array.astype(np.float64) for array in (found, reference)]
    if name.startswith("log_"):
        values = [np.exp(array) for array in values]
    size = float(np.linalg.norm(values[1])) or 1.0
    return float(np.linalg.norm(values[0] - values[1])) / size


class UnavailableEngine:
    """An `Engine` that cannot serve."""

    def __init__(self, name: str, version: str, reason: str) -> None:
        self.name = name
        self.version = version
        self.kind = ""
        self.runtime = ""
        self.takes_tensors = False
        self.manifest: Manifest | None = None
        self.reason: str | None = reason
        self.last_run_ms = 0.0

    def warm_up(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        pass

    def run(self, planes: Any, **scalars: Any) -> Any:
        raise EngineUnavailable(f"{self.name} {self.version}".strip(), str(self.reason))

    outputs = run


def load_engine(
    name: str,
    version: str | None = None,
    runtime: str | None = None,
    *,
    store: Store | None = None,
    options: Options | None = None,
) -> LoadedEngine:
    """Load a network and let it prove itself on its golden vector.

    Parameters
    ----------
    name : str
    version : str, optional
        By default the newest.
    runtime : str, optional
        One of `RUNTIMES`; by default ONNX Runtime on the CPU, in fp32.
    store : Store, optional
        By default shipped weights only.
    options : Options, optional

    Raises
    ------
    EngineUnavailable
        Weights missing or refused (`WeightsRefused`), runtime missing, no compiled engine, golden
        vector not reproduced.
    """
    store, options = store or Store(), options or Options()
    runtime = runtime or DEFAULT_RUNTIME
    if runtime not in RUNTIMES:
        raise EngineUnavailable(name, f"expected a runtime of {', '.join(RUNTIMES)}, got {runtime}")
    return open_engine(store.open(name, version), runtime, options)


def open_engine(weights: Weights, runtime: str, options: Options) -> LoadedEngine:
    """As `load_engine`, with weights which were read already."""
    label = f"{weights.manifest.name} {weights.manifest.version}"
    try:
        module = import_module(f"engines.{runtime.replace('-', '_')}_runtime")
        session = module.open_session(weights, options)
        engine = LoadedEngine(weights, session)
        engine.prove()
    except EngineUnavailable:
        raise
    except ImportError as error:
        raise EngineUnavailable(label, f"the runtime {runtime} is not here: {error}") from error
    except Exception as error:
        raise EngineUnavailable(
            label, f"the runtime {runtime} cannot run it: {type(error).__name__}: {error}"
        ) from error
    return engine


_shared = lru_cache(maxsize=16)(load_engine)


def forget() -> None:
    """Have networks be read anew when they are asked for next; those in use go on."""
    _shared.cache_clear()


def engine_or_reason(
    name: str,
    version: str | None = None,
    runtime: str | None = None,
    *,
    store: Store | None = None,
    options: Options | None = None,
) -> Engine:
    """As `load_engine`, once per process; never raises.

    What cannot serve is an engine with a ``reason``, and is tried again the next time.
    """
    try:
        return _shared(name, version, runtime, store=store, options=options)
    except EngineUnavailable as error:
        return UnavailableEngine(name, version or "", error.reason)
