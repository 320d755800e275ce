"""Everything about exams that runs beside the sessions, as the settings say; or nothing.

with exams(settings) as looking:                  # None where `exams` is not set
    Session(..., beside=looking and looking.beside())
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent import log
from agent.audit import Audit
from agent.audit_chain import AuditError
from agent.config import Settings, SettingsError
from agent.control import ControlChannel
from agent.control_inband import InBand
from agent.control_settings import ControlSettings
from agent.control_store import ControlStore, StoreError
from agent.counts import COUNTS
from agent.coverage import Coverage
from agent.coverage_channel import Channel
from agent.coverage_page import Shown
from agent.coverage_store import CoverageStore
from agent.exam_beside import Beside
from agent.exam_settings import ExamSettings
from agent.exam_worker import Setup, Worker
from agent.exams import ExamBook
from protocols.control import Telemetry
from protocols.exam_file import ProtocolError
from protocols.exam_library import library

if TYPE_CHECKING:
    from agent.ways_out import WaysOut


@dataclass(frozen=True)
class Looking:
    """What runs.

    Attributes
    ----------
    book : ExamBook
    channel : ControlChannel or InBand
    """

    book: ExamBook
    channel: ControlChannel | InBand

    def beside(self) -> Beside:
        """Return what a new measurement has to do with its exam."""
        return Beside(self.book, self.channel if isinstance(self.channel, InBand) else None)


@contextmanager
def exams(
    settings: Settings, ways: "WaysOut | None" = None, setup: Setup | None = None
) -> Iterator[Looking]:
    """Look at exams, and ask for coverage, until the end.

    Parameters
    ----------
    settings : Settings
    ways : WaysOut or None
        Where it goes what is seen and asked.
    setup : Setup, optional
        Of the worker; by default what the settings say.

    Raises
    ------
    SettingsError
        Something of it cannot be had: a protocol, the audit's folder, a file, an address, keys.
    """
    with ExitStack() as stack:
        yield _run(stack, settings, settings.exams or ExamSettings(), ways, setup)


def _run(
    stack: ExitStack,
    settings: Settings,
    looks: ExamSettings,
    ways: "WaysOut | None",
    setup: Setup | None,
) -> Looking:
    control = settings.control or ControlSettings()
    try:
        protocols = {name: entry.protocol for name, entry in library(_folder(looks)).items()}
        if looks.protocol not in protocols:
            raise SettingsError(
                f"exams.protocol: expected one of {', '.join(protocols)}, got {looks.protocol!r}"
            )
        audit = stack.enter_context(Audit(settings.audit.folder))
        questions = ControlStore(control.store)
        stack.callback(questions.close)
        courses = CoverageStore(control.store.with_name(f"{control.store.stem}-exams.sqlite"))
        stack.callback(courses.close)
    except (AuditError, ProtocolError, StoreError) as error:
        raise SettingsError(f"exams: {error}") from None
    if setup is None:
        setup = Setup(settings.engines, settings.threads, summary=True)
        if not looks.triage:
            setup = replace(setup, triage=None)
    worker = Worker(setup, looks.deadline_s)
    stack.callback(worker.close)
    planned = tuple(step.name for step in protocols[looks.protocol].steps)
    book = ExamBook(worker, audit, ways, planned)
    channel: ControlChannel | InBand
    if settings.control is None:
        channel = InBand(questions, book.tell)
    else:
        channel = stack.enter_context(ControlChannel(control, questions, book.tell))
        log.get().info(
            "control channel is open", port=channel.port, telemetry_port=channel.telemetry_port
        )
    shown: Channel = channel
    if ways is not None and ways.page is not None and ways.watch is not None:
        shown = ways.watch.channel = Shown(channel, ways.page)
        stack.callback(setattr, ways.watch, "channel", None)
    coverage = Coverage(protocols, looks.protocol, settings.site, courses, audit, shown)
    coverage.start()
    stack.callback(coverage.close)

    def publish(message: Telemetry) -> None:
        COUNTS.told(message)
        channel.publish(message)

    book.start(coverage, publish)
    stack.callback(book.close, settings.limits.stop_seconds)
    return Looking(book, channel)


def _folder(looks: ExamSettings) -> Path | None:
    return looks.folder if looks.folder.is_dir() else None
