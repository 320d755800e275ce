"""`boreside engine`: the networks of the store, and whether they run here."""

import os
import signal
import statistics
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from agent.config import Settings, SettingsError, load

app = typer.Typer(no_args_is_help=True, help="Neural networks: what there is, does it run here.")
_console = Console()
_errors = Console(stderr=True)

RUNS = 5
"""Of which the median is told."""

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file [default: agent.yaml, if present].")
]


@app.command("list")
def list_networks(config: Config = None) -> None:
    """List the networks of the store: shipped ones and the site's own."""
    from agent.engines import store

    table = Table("network", "version", "kind", "from", "signed", "trained for", "licence")
    networks = store(_settings(config).engines).networks()
    for found in networks:
        about = found.manifest
        if about is None:
            problem = f"[red]refused[/red]: {_plain(found.problem)}"
            table.add_row(found.name, found.version, "", found.origin, "", problem, "")
            continue
        limits = about.limits
        table.add_row(
            found.name,
            found.version,
            about.kind,
            found.origin,
            "yes" if found.signed else "no",
            f"SNR {limits.snr[0]:g}-{limits.snr[1]:g}, sides {limits.side[0]}-{limits.side[1]}",
            about.licence,
        )
    _console.print(table)
    raise typer.Exit(1 if any(found.problem for found in networks) else 0)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="Network [default: all].")] = None,
    size: Annotated[list[int] | None, typer.Option(help="Matrix to time, again for more.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or bf16 [default: the runtime's own].")
    ] = None,
    config: Config = None,
) -> None:
    """Let every engine prove itself on its golden vector, and time it, on every runtime here.

    What cannot be run here says "not run", and why. The exit status is 1 where weights are refused,
    an engine does not prove itself, or the runtime of the settings is here and cannot run.
    """
    from agent.engines import options, store
    from engines.engine import RUNTIMES, open_engine
    from engines.errors import EngineUnavailable, NotReproduced

    settings = _settings(config)
    sizes = size or [160, 256, 320]
    table = Table("network", "runtime", "difference", *(f"{n} x {n}, ms" for n in sizes))
    asked = options(settings.engines, settings.threads, precision)
    failed = found_any = False
    reasons = []
    here = store(settings.engines)
    for found in here.networks():
        if name not in (None, found.name):
            continue
        found_any = True
        label = f"{found.name} {found.version}"
        if found.problem:
            table.add_row(label, "", "[red]refused[/red]")
            reasons.append(f"{label} refused: {found.problem}")
            failed = True
            continue
        weights = here.open(found.name, found.version)
        for runtime in RUNTIMES:
            try:
                engine = open_engine(weights, runtime, asked)
            except EngineUnavailable as error:
                wrong = isinstance(error, NotReproduced)
                is_here = not isinstance(error.__cause__, ImportError)
                failed |= wrong or (is_here and runtime == settings.engines.runtime)
                said = "differs" if wrong else "not run"
                table.add_row(label, runtime, f"[red]{said}[/red]" if wrong else said)
                reasons.append(f"{label} on {runtime} {said}: {error.reason}")
                continue
            times = [f"{_latency(engine, n):.1f}" for n in sizes]
            table.add_row(label, engine.runtime, f"{engine.prove():.1e}", *times)
    _console.print(table)
    for reason in reasons:
        _console.print(reason, markup=False, highlight=False)
    if not found_any:
        raise _give_up(ValueError(f"no network{f' {name}' if name else ''} in the store"))
    raise typer.Exit(1 if failed else 0)


def _latency(engine: Any, size: int) -> float:
    import numpy as np

    multiple = engine.manifest.multiple_of
    side = -(-size // multiple) * multiple
    engine.warm_up([(1, side, side)])
    scalars = {spec.name: 1.0 for spec in engine.manifest.inputs[1:]}
    channels = len(engine.manifest.inputs[0].channels)
    planes = np.random.default_rng(0).standard_normal((1, channels, side, side), np.float32)
    times: list[float] = []
    for _ in range(RUNS):
        engine.run(planes, **scalars)
        times.append(engine.last_run_ms)
    return statistics.median(times)


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder with manifest.json, model.onnx, ...")],
    config: Config = None,
) -> None:
    """Verify weights and copy them to the site's folder."""
    from agent.engines import store
    from engines.errors import EngineUnavailable

    try:
        weights = store(_settings(config).engines).add(folder)
    except (EngineUnavailable, ValueError, OSError) as error:
        raise _give_up(error) from None
    _console.print(f"added {weights.manifest.label}", markup=False, highlight=False)


@app.command()
def update(
    folder: Annotated[Path, typer.Argument(help="Folder with manifest.json, model.onnx, ...")],
    config: Config = None,
) -> None:
    """Have a new version of a network used, if it proves itself; else the old one stays.

    Its golden vector and the golden exam are run before and after it is put into place. A running
    agent takes it for its next measurement. The exit status is 1 where the old one stays.
    """
    from agent.engine_update import NotUpdated
    from agent.engine_update import update as take

    settings = _settings(config)
    try:
        for line in take(folder, settings):
            _console.print(line, markup=False, highlight=False, soft_wrap=True)
    except NotUpdated as error:
        _errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    _tell_agent(settings)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Network.")],
    config: Config = None,
) -> None:
    """Take the newest version that the site has added out of use; the one before serves again."""
    from agent.engines import store
    from engines.errors import EngineUnavailable

    settings = _settings(config)
    here = store(settings.engines)
    versions = [found for found in here.networks() if found.name == name]
    try:
        if not versions or versions[0].origin != "site":
            raise EngineUnavailable(name, "its newest version is not the site's: nothing to undo")
        here.withdraw(name, versions[0].version)
    except EngineUnavailable as error:
        raise _give_up(error) from None
    now = versions[1].version if len(versions) > 1 else "none"
    _console.print(f"{name}: {now} instead of {versions[0].version}", highlight=False)
    _tell_agent(settings)


def _tell_agent(settings: Settings) -> None:
    from agent.running import process

    if (pid := process(settings.spool.folder)) is not None:
        os.kill(pid, signal.SIGHUP)
        _console.print(f"the agent, process {pid}, was told", highlight=False)


class Built(StrEnum):
    """Runtimes that need something built."""

    TENSORRT = "tensorrt"
    OPENVINO_INT8 = "openvino-int8"


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="Network.")],
    runtime: Annotated[Built, typer.Option(help="For what.")] = Built.TENSORRT,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="SLICESxYxX of a protocol, such as 1x320x320; again for more."),
    ] = None,
    dynamic: Annotated[
        bool, typer.Option(help="Also one engine for all other matrices up to 512.")
    ] = True,
    precision: Annotated[str, typer.Option(help="Of TensorRT: fp16, bf16 or fp32.")] = "fp16",
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of your images, for int8.")
    ] = None,
    config: Config = None,
) -> None:
    """Build what a runtime needs, for this machine; at commissioning, never while scanning.

    TensorRT: engines for this GPU. OpenVINO in int8: a model that is kept only if it makes as good
    images as fp32 from a part of yours; what it was measured at is printed, and it is never chosen
    by itself.
    """
    from agent.engines import options, store
    from engines.errors import EngineUnavailable

    settings = _settings(config)
    try:
        weights = store(settings.engines).open(name)
        if runtime == Built.OPENVINO_INT8:
            _build_int8(weights, calibration, options(settings.engines, settings.threads))
            return
        from engines import tensorrt_runtime

        profiles = [
            tensorrt_runtime.Profile.static(_parse_shape(text, weights.manifest.multiple_of))
            for text in shape or []
        ]
        if dynamic:
            low = 8 * weights.manifest.multiple_of
            profiles.append(tensorrt_runtime.Profile((1, low, low), (1, 320, 320), (8, 512, 512)))
        asked = options(settings.engines, settings.threads, precision)
        paths = tensorrt_runtime.build(weights, profiles, asked)
    except ImportError as error:
        said = (
            "TensorRT cannot be run" if runtime == Built.TENSORRT else f"{runtime} cannot be built"
        )
        raise _give_up(ImportError(f"{said} here: {error}")) from None
    except (EngineUnavailable, ValueError, OSError) as error:
        raise _give_up(error) from None
    for path in paths:
        _console.print(str(path), markup=False, highlight=False)


def _build_int8(weights: Any, calibration: Path | None, options: Any) -> None:
    if calibration is None:
        raise ValueError("expected --calibration with a folder of images")
    from engines.int8 import build

    path, quality = build(weights, calibration, options)
    _console.print(f"{path}\n{quality}", markup=False, highlight=False)


def _parse_shape(text: str, multiple: int) -> tuple[int, int, int]:
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"shape: expected SLICESxYxX, such as 1x320x320, got {text}")
    batch, y, x = map(int, parts)
    return batch, -(-y // multiple) * multiple, -(-x // multiple) * multiple


def _settings(config: Path | None) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        raise _give_up(error) from None


def _give_up(error: Exception) -> typer.Exit:
    _errors.print(f"[red]{type(error).__name__}[/red]", end=" ")
    _errors.print(str(error), markup=False, highlight=False)
    return typer.Exit(2)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
