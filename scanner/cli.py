"""The virtual scanner's commands: scan and demo."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="A virtual scanner and its exams.")


class Exam(StrEnum):
    """Simulated exams."""

    LUMBAR = "lumbar"
    QUICK = "quick"


class _Measurement(NamedTuple):
    name: str
    messages: Iterable[Any]
    readouts: int | None


def _pace(speed: str) -> float | None:
    if speed in ("real", "max"):
        return 1.0 if speed == "real" else None
    try:
        if (pace := float(speed)) > 0:
            return pace
    except ValueError:
        pass
    raise typer.BadParameter(f"expected real, max or a positive number, got {speed!r}")


@app.command()
def scan(
    file: Annotated[
        Path | None, typer.Argument(help="ISMRMRD HDF5 file or recorded MRD stream.")
    ] = None,
    exam: Annotated[
        Exam, typer.Option(help="Simulated exam, where no file is given.")
    ] = Exam.QUICK,
    address: Annotated[
        str, typer.Option(help="Host of the MRD server, or unix:/path.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port of the MRD server.")] = 9002,
    config: Annotated[
        str | None,
        typer.Option(help="Configuration to ask for [default: the file's own, or conventional]."),
    ] = None,
    speed: Annotated[
        str, typer.Option(help="real, max, or how many times faster than scanned.")
    ] = "max",
    out: Annotated[
        Path | None,
        typer.Option(help="New ISMRMRD HDF5 file for the images [default: NAME_images.h5]."),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Measurement of the file.")] = None,
) -> None:
    """Send a measurement to an MRD server as a scanner does, and keep the images."""
    pace = _pace(speed)
    out = out or Path(f"{file.stem if file else exam.value}_images.h5")
    if out.exists():
        raise typer.BadParameter(f"{out} exists: name another file with --out")

    from protocols.errors import FileFormatError, WireError
    from protocols.mrd_hdf5 import write_measurement
    from scanner import console as show
    from scanner.client import ServerAbsent, SessionBroken

    console = Console()
    where = address if address.startswith("unix:") else f"{address}:{port}"
    broken = False
    for name, messages, readouts in _measurements(file, exam, config, group):
        head: list[Any] = []
        try:
            received = show.scan(console, where, name, _keep_head(messages, head), readouts, pace)
        except SessionBroken as error:
            console.print(f"[red]{name}[/red]:", str(error))
            received, broken = error.received, True
        except (ServerAbsent, FileFormatError, WireError, OSError, ValueError) as error:
            console.print(f"[red]{type(error).__name__}[/red]:", str(error), highlight=False)
            raise typer.Exit(2) from None
        for text in received.texts:
            console.print(text, markup=False)
        write_measurement(out, chain(head, received.images), group=name)
        console.print(_what_came(name, received))
    console.print(f"images: {out}")
    raise typer.Exit(1 if broken else 0)


def _measurements(
    file: Path | None, exam: Exam, config: str | None, group: str | None
) -> Iterator[_Measurement]:
    from protocols.mrd_hdf5 import open_measurement
    from protocols.mrd_types import ConfigFile, ConfigText

    if file is None:
        from scanner.demo import n_readouts, step_messages, steps_of

        for step in steps_of(exam.value)[0]:
            yield _Measurement(
                step.name, step_messages(step, config or "conventional"), n_readouts(step)
            )
        return

    def messages() -> Iterator[Any]:
        stored = open_measurement(file, group)
        first = next(stored, None)
        if config is not None:
            yield ConfigFile(config)
            if isinstance(first, ConfigFile | ConfigText):
                first = next(stored, None)
        elif not isinstance(first, ConfigFile | ConfigText):
            yield ConfigFile("conventional")
        if first is not None:
            yield first
        yield from stored

    yield _Measurement(group or "dataset", messages(), None)


def _keep_head(messages: Iterable[Any], head: list[Any]) -> Iterator[Any]:
    """Pass messages on; configuration and header go into ``head`` too, for the images' file."""
    from protocols.mrd_types import ConfigFile, ConfigText, HeaderText

    for message in messages:
        if isinstance(message, ConfigFile | ConfigText | HeaderText):
            head.append(message)
        yield message


def _what_came(name: str, received: Any) -> Any:
    from scanner import console as show

    series: dict[tuple[int, str], list[int]] = {}
    for number, image in enumerate(received.images):
        size = " x ".join(str(n) for n in image.header["matrix_size"])
        series.setdefault((int(image.header["image_series_index"]), size), []).append(number)
    columns = ("series", "images", "matrix", "latency ms: median", "longest")
    rows = [
        (
            index,
            len(numbers),
            size,
            *show.middle_and_worst([received.latency_ms(number) for number in numbers]),
        )
        for (index, size), numbers in sorted(series.items())
    ]
    return show.table(f"{name}: {len(received.readouts)} readouts sent", columns, rows)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/demo"),
    exam: Annotated[Exam, typer.Option(help="Simulated exam.")] = Exam.LUMBAR,
    shared_data: Annotated[
        Path | None,
        typer.Option(help="Folder with the real brain k-space [default: ../shared/data]."),
    ] = None,
    page: Annotated[
        bool, typer.Option("--console", help="Serve the console page, to watch the exam on.")
    ] = False,
) -> None:
    """Run a simulated exam through the agent, from the first readout to the last image."""
    from scanner.client import ServerAbsent, SessionBroken
    from scanner.demo import run
    from scanner.demo_agent import AgentFailed

    try:
        run(out, exam.value, shared_data, Console(), page)
    except (AgentFailed, ServerAbsent, SessionBroken) as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}[/red]:", str(error))
        raise typer.Exit(1) from None


@app.command()
def phantoms(
    folder: Annotated[Path, typer.Argument(help="Where to write the images.")],
    count: Annotated[int, typer.Option(help="Patients: a file of each.")] = 150,
    seed: Annotated[int, typer.Option(help="Another seed makes other patients.")] = 1,
    side: Annotated[int, typer.Option(help="Pixels of images.")] = 320,
    labels: Annotated[
        bool, typer.Option("--labels", help="Labelled sagittal slices instead of images.")
    ] = False,
    exams: Annotated[
        bool, typer.Option("--exams", help="Exams with known lesions instead of images.")
    ] = False,
    synthesis: Annotated[
        bool, typer.Option("--synthesis", help="Slices for synthetic contrasts instead of images.")
    ] = False,
) -> None:
    """Write images of random phantom patients, to train on."""
    if exams:
        from scanner.triage_data import write_exams

        write_exams(folder, count, seed)
        return
    if labels:
        from scanner.label_data import write_labelled

        write_labelled(folder, count, seed)
        return
    if synthesis:
        from scanner.synthesis_data import write_slices

        write_slices(folder, count, seed)
        return
    from scanner.phantom_images import write_phantoms

    write_phantoms(folder, count, seed, side)
