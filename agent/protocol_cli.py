"""`boreside protocol`: exam protocols listed, read aloud, checked, and their schema for editors.

The models are imported where a command needs them: the agent, too, starts with this module.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from protocols.exam import ExamProtocol, Step
    from protocols.exam_check import Known
    from protocols.exam_library import Entry

app = typer.Typer(no_args_is_help=True, help="Exam protocols and their triggers.")
_console = Console()
_errors = Console(stderr=True)

DEFAULT_SITE = Path("exam-protocols")

Site = Annotated[
    Path,
    typer.Option(
        envvar="BORESIDE_EXAM_PROTOCOLS",
        help="Folder of the site's own protocols; they override shipped ones of the same name.",
    ),
]


@app.command("list")
def list_protocols(site: Site = DEFAULT_SITE) -> None:
    """List the exam protocols: shipped ones and the site's own."""
    table = Table("protocol", "rev.", "title", "steps", "min", "triggers", "from")
    table.columns[0].no_wrap = True
    for entry in _library(site).values():
        protocol = entry.protocol
        origin = "shipped" if entry.shipped else str(entry.path)
        table.add_row(
            protocol.name,
            str(protocol.revision),
            protocol.title,
            str(len(protocol.steps)),
            f"{protocol.minutes:.1f}",
            "\n".join(trigger.name for trigger in protocol.triggers) or "none",
            origin + (", overrides the shipped one" if entry.overrides else ""),
        )
    _console.print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Protocol.")],
    site: Site = DEFAULT_SITE,
) -> None:
    """Read a protocol aloud: its steps, its triggers as sentences, its budget."""
    found = _library(site)
    if name not in found:
        _errors.print(
            f"no protocol {name}, expected one of {', '.join(found)}",
            markup=False,
            highlight=False,
        )
        raise typer.Exit(2)
    protocol = found[name].protocol
    print(f"{protocol.title} ({protocol.name}, revision {protocol.revision})")
    if protocol.description:
        print(protocol.description)
    print(f"\nPlanned, {protocol.minutes:.1f} min of a slot of {protocol.slot_minutes:g} min")
    _print_steps(protocol.steps)
    if protocol.on_demand:
        print("\nOn demand")
        _print_steps(protocol.on_demand)
    _print_triggers(protocol)


def _print_steps(steps: "tuple[Step, ...]") -> None:
    for step in steps:
        engines = f" with {', '.join(step.engines)}" if step.engines else ""
        print(
            f"  {step.name}: {step.title or step.contrast}, {step.geometry.rule}, "
            f"{step.minutes:g} min, chain {step.chain}{engines}"
        )


def _print_triggers(protocol: "ExamProtocol") -> None:
    from protocols.trigger_text import read_aloud

    for trigger in sorted(protocol.triggers, key=lambda trigger: trigger.priority):
        print("\nTrigger " + "\n".join(read_aloud(trigger, protocol)))
    budget = protocol.budget
    if protocol.triggers:
        print(
            f"\nIn one exam at most {budget.proposals} proposals and {budget.extra_minutes:g} "
            f"extra min; none in the last {budget.none_in_last_minutes:g} min of the slot."
        )


@app.command()
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Protocol files [default: the shipped ones and the site's own]."),
    ] = None,
    site: Site = DEFAULT_SITE,
) -> None:
    """Check protocol files: each problem with its file, line and column, and what would be right.

    The exit status is 1 where there are problems, 2 where a file cannot be read.
    """
    from protocols import exam_library
    from protocols.exam_file import ProtocolError, load

    known = known_names()
    status = 0
    for path in files or [*exam_library.files(exam_library.SHIPPED), *exam_library.files(site)]:
        try:
            protocol = load(path, known)
        except ProtocolError as error:
            print(error)
            status = max(status, 1)
        except OSError as error:
            print(f"{path}: expected a protocol file: {error.strerror}")
            status = 2
        else:
            print(f"{path}: ok, {protocol.name} revision {protocol.revision}")
    raise typer.Exit(status)


@app.command()
def schema() -> None:
    """Print the JSON Schema of protocol files, for editors."""
    from protocols import exam_library

    print(exam_library.schema(), end="")


def known_names() -> "Known":
    """Return the chains, engines and measures there are here, which protocols may name."""
    from agent.chains import CHAINS
    from agent.config import load as settings
    from agent.engines import store
    from gadgets.measures import NAMES
    from protocols.exam_check import Known

    networks = store(settings().engines).networks()
    return Known(
        chains=frozenset(CHAINS),
        engines=frozenset(network.name for network in networks if not network.problem),
        measures=NAMES,
    )


def _library(site: Path) -> "dict[str, Entry]":
    from protocols import exam_library
    from protocols.exam_file import ProtocolError

    try:
        return exam_library.library(site)
    except ProtocolError as error:
        _errors.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
