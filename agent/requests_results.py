"""Where the images of requests go: an ISMRMRD file, the console's page, and PACS by the outbox."""

import copy
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import ismrmrd.xsd as xsd

from agent import log
from agent.audit import salt_file
from agent.audit_records import Pseudonyms
from agent.config import Settings
from agent.event_records import Begun, Problem
from agent.events import EventReader, Events
from agent.exams import exam_name
from agent.requests import Request
from agent.requests_images import Recorded
from gadgets.series import series_name, step_name
from protocols.header import Header
from protocols.mrd_hdf5 import write_images
from protocols.mrd_types import ImageMessage

if TYPE_CHECKING:
    from agent.dicom import DicomExams

_COUNTERS = ("contrast", "repetition", "phase", "set")


class Results:
    """All ways that the settings name. What is put into the outbox the agent sends.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    OSError, sqlite3.Error, ValueError
        A folder cannot be had.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = ExitStack()
        self._events: Events | None = None
        self._reader: EventReader | None = None
        settings.audit.folder.parent.mkdir(parents=True, exist_ok=True)
        self._pseudonyms = Pseudonyms.of_site(salt_file(settings.audit.folder))
        if settings.console is not None:
            self._events = self._open.enter_context(Events(settings.console.events, alive=False))
            self._reader = EventReader(settings.console.events)
            self._open.callback(self._reader.close)
        self._dicom = self._to_pacs()

    def _to_pacs(self) -> "DicomExams | None":
        settings = self._settings
        if settings.outbox is None or not settings.outbox.destinations:
            return None
        from agent.dicom import DicomExams
        from agent.outbox import Outbox
        from agent.worklist import Worklist

        title = settings.dicom.ae_title
        outbox = Outbox(settings.outbox, title)
        self._open.callback(outbox.close)
        lookup = None
        if settings.dicom.worklist is not None:
            folder = settings.outbox.folder / "worklist"
            lookup = Worklist(settings.dicom.worklist, folder, title).complete
        return DicomExams(settings.dicom, outbox.add, lookup)

    def __enter__(self) -> "Results":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def deliver(
        self, request: Request, recorded: Recorded, images: Sequence[ImageMessage], file: Path
    ) -> tuple[str, str]:
        """Hand all images on.

        Delivered again, they are the same objects in a PACS, and take their old place on the page.

        Parameters
        ----------
        request, recorded
        images : sequence of ImageMessage
        file : Path
            For the ISMRMRD file; one that is there is replaced.

        Returns
        -------
        tuple of str
            What names of its series on the page begin with, and what went wrong; "" where nothing
            did.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = file.with_suffix(".part")
        part.unlink(missing_ok=True)
        write_images(part, images)
        part.replace(file)
        series = f"{step_name(recorded.header)}/{request.id[:12]}"
        self._show(request, recorded, images, series)
        try:
            return series, self._send(request, recorded, images)
        except (OSError, sqlite3.Error) as error:
            log.get(request=request.id).error("not in the outbox", exc_info=error)
            return series, f"not sent to a PACS: {error}"

    def _show(
        self, request: Request, recorded: Recorded, images: Sequence[ImageMessage], series: str
    ) -> None:
        if self._events is None:
            return
        exam = self._pseudonyms.exam(exam_name(recorded.header) or recorded.name)
        title = f"{self._title(recorded)}, {request.wanted.words}"
        for image in images:
            counters = {name: int(image.header[name]) for name in _COUNTERS}
            stack = series_name(series, counters)
            self._events.picture(exam, stack, image, recorded.name, title)
        words = f"request done: {request.wanted.words}, {len(images)} images"
        self._events.say(None, Problem(level="info", text=words))

    def _title(self, recorded: Recorded) -> str:
        """Return the step's title, as the page has it."""
        assert self._reader is not None
        for row in self._reader.latest("begun", 100):
            event = row.event
            if isinstance(event, Begun) and event.measurement == recorded.name and event.title:
                return event.title
        return step_name(recorded.header)

    def _send(self, request: Request, recorded: Recorded, images: Sequence[ImageMessage]) -> str:
        if self._dicom is None:
            return ""
        header = named(recorded, request.wanted.words)
        sink = self._dicom.of(header, recorded.name).sink(request.id, header)
        for image in images:
            sink.add(image, wait=True)
        errors = sink.close()
        return f"not all of it was written as DICOM: {errors[0]}" if errors else ""


def named(recorded: Recorded, words: str) -> Header:
    """Return a header for DICOM: of the measurement's study, but a step of its own."""
    from agent.dicom_identity import from_header

    header = copy.deepcopy(recorded.header)
    identity = from_header(recorded.header, recorded.name)
    study = header.studyInformation or xsd.studyInformationType()
    study.studyInstanceUID = identity.study_uid
    header.studyInformation = study
    if header.measurementInformation is not None:
        header.measurementInformation.frameOfReferenceUID = identity.frame_of_reference_uid
        header.measurementInformation.protocolName = f"{step_name(header)}, {words}"
    return header
