"""The agent's commands: serve, recover, export."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agent import engine_cli, engines, log
from agent.config import Settings, SettingsError, load
from agent.heap import few_arenas
from agent.running import AlreadyRunning, running

app = typer.Typer(no_args_is_help=True, help="The agent beside the scanner bore.")
app.add_typer(engine_cli.app, name="engine")
_console = Console(stderr=True)

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file (default: agent.yaml, if present).")
]
SpoolFolder = Annotated[Path | None, typer.Option("--spool", help="Folder of the measurements.")]


def load_settings(config: Path | None, spool: Path | None, **listen: Any) -> Settings:
    """Return the settings as file, environment and command line say now."""
    overrides: dict[str, Any] = {}
    if given := {key: value for key, value in listen.items() if value is not None}:
        overrides["listen"] = given
    if spool is not None:
        overrides["spool"] = {"folder": spool}
    return load(config, **overrides)


def _settings(config: Path | None, spool: Path | None, **listen: Any) -> Settings:
    settings = load_settings(config, spool, **listen)
    engines.use(settings)
    return settings


def _give_up(error: Exception) -> typer.Exit:
    _console.print(f"[red]{type(error).__name__}[/red]", end=" ")
    _console.print(str(error), markup=False, highlight=False)
    return typer.Exit(2)


@app.command()
def serve(
    config: Config = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; 0.0.0.0 for a scanner on another machine."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="TCP port.")] = None,
    socket: Annotated[Path | None, typer.Option(help="Unix socket to listen on, too.")] = None,
    spool: SpoolFolder = None,
    recover: Annotated[
        bool, typer.Option(help="Finish what an earlier process left unfinished.")
    ] = True,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Serve one session on standard input and output.")
    ] = False,
) -> None:
    """Take measurements from scanners and give them their images."""
    few_arenas()
    log.setup()
    try:
        settings = _settings(config, spool, host=host, port=port, socket=socket)
        if stdio:
            _serve_stdio(settings)
            return
        from agent.server import Server

        server = Server(
            settings, lambda: load_settings(config, spool, host=host, port=port, socket=socket)
        )
        _stop_on_signals(server.stop)
        signal.signal(signal.SIGHUP, lambda number, frame: server.reload())
        with running(settings.spool.folder):
            server.serve(recover)
    except (SettingsError, AlreadyRunning) as error:
        raise _give_up(error) from None


def _stop_on_signals(stop: Callable[[], None]) -> None:
    """SIGTERM or SIGINT ends the agent when its sessions have ended; a second one at once."""

    def first(number: int, frame: object) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda number, frame: os._exit(128 + number))
        stop()

    signal.signal(signal.SIGTERM, first)
    signal.signal(signal.SIGINT, first)


def _serve_stdio(settings: Settings) -> None:
    # What any library prints must not get between the messages.
    out = os.dup(1)
    os.dup2(2, 1)

    from agent.session import Session
    from agent.spool import Spool
    from gadgets.fft import set_threads

    set_threads(settings.threads)
    spool = Spool(settings.spool)
    with ExitStack() as stack:
        beside = ways = None
        if settings.outbox is not None or settings.console is not None:
            from agent.ways_out import ways_out

            ways = stack.enter_context(ways_out(settings, spool))
        if settings.exams is not None:
            from agent.exam_service import exams

            beside = stack.enter_context(exams(settings, ways)).beside()
        source = stack.enter_context(open(0, "rb", buffering=0))
        sink = stack.enter_context(open(out, "wb", buffering=0))
        Session(source, sink, spool, settings, beside=beside, ways=ways).run()


@app.command()
def recover(
    config: Config = None,
    spool: SpoolFolder = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the images (default: results in the spool).")
    ] = None,
) -> None:
    """Reconstruct measurements of the spool whose images never reached their scanner."""
    log.setup()
    try:
        settings = _settings(config, spool)
    except SettingsError as error:
        raise _give_up(error) from None
    from agent.recover import dicom_again
    from agent.recover import recover as recover_one
    from agent.spool import Spool
    from gadgets.fft import set_threads

    set_threads(settings.threads)
    folder = Spool(settings.spool)
    failed = False
    with ExitStack() as stack:
        way = None
        try:
            if settings.outbox is not None:
                from agent.ways_out import ways_out

                way = stack.enter_context(ways_out(settings, folder, serve=False)).way
        except SettingsError as error:
            raise _give_up(error) from None
        for name in folder.names():
            if folder.done(name):
                continue
            outgoing = way.recovered(name) if way else None
            if folder.delivered(name):
                if outgoing is not None and dicom_again(folder, name, settings, outgoing):
                    _console.print(f"{name}: its DICOM objects are in the outbox")
                continue
            report = recover_one(folder, name, settings, out, outgoing)
            if report is None:
                _console.print(f"{name}: a running session holds it")
                continue
            failed |= report.failed
            _console.print(f"{name}: {report.readouts} readouts, {len(report.images)} images")
    raise typer.Exit(1 if failed else 0)


@app.command()
def export(
    measurement: Annotated[Path, typer.Argument(help="A measurement of the spool: NAME.mrd")],
    out: Annotated[Path, typer.Argument(help="ISMRMRD HDF5 file to write")],
) -> None:
    """Write a measurement of the spool as an ISMRMRD HDF5 file."""
    from agent.export import export as write_file

    try:
        cut = write_file(measurement, out)
    except (OSError, ValueError) as error:
        raise _give_up(error) from None
    if cut is not None:
        _console.print(f"the recording breaks off: {cut}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(app())
