"""Where everything goes besides the scanner, as the settings say: to PACS, and to the page.

    with ways_out(settings, spool) as ways:
        Session(..., ways=ways)                      # its images: ways.measurement(name, peer)
        exams(settings, ways=ways)                   # what is seen in them, and asked
        ways.make_good()                             # what an earlier process left

Nothing here raises towards those who measure or look, and nothing waits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from agent import log
from agent.audit import salt_file
from agent.audit_records import EngineUsed, Pseudonyms
from agent.config import Settings, SettingsError
from agent.events import Events
from agent.exam_summary import Summary
from agent.exams import exam_name
from agent.outgoing import Outgoing
from agent.page import Page
from agent.page_watch import Watch
from agent.spool import Spool
from gadgets.items import LabelMap
from protocols.findings import ExamFindings
from protocols.header import Header

if TYPE_CHECKING:
    from agent.dicom_way import DicomWay


def _to_pacs(settings: Settings) -> bool:
    return settings.outbox is not None and bool(settings.outbox.destinations)


@contextmanager
def ways_out(settings: Settings, spool: Spool, serve: bool = True) -> Iterator["WaysOut"]:
    """Have the ways of the settings, until the end.

    Parameters
    ----------
    settings : Settings
    spool : Spool
    serve : bool
        False: what is made anew is put into the outbox, and an agent beside sends it.

    Raises
    ------
    SettingsError
        A folder or port cannot be had.
    """
    with ExitStack() as stack:
        try:
            settings.audit.folder.parent.mkdir(parents=True, exist_ok=True)
            pseudonyms = Pseudonyms.of_site(salt_file(settings.audit.folder))
        except (OSError, ValueError) as error:
            raise SettingsError(f"audit.folder: expected room beside it: {error}") from None

        def exam(header: Header | None, measurement: str) -> str:
            name = exam_name(header) if header is not None else None
            return pseudonyms.exam(name or measurement)

        page = None
        if serve and settings.console is not None:
            try:
                events = stack.enter_context(Events(settings.console.events))
            except OSError as error:
                raise SettingsError(f"console.events: expected a folder: {error}") from None
            page = Page(settings, events)
        way = None
        if _to_pacs(settings):
            try:
                from agent.dicom_way import DicomWay
            except ImportError as error:
                raise SettingsError(
                    f"outbox: expected the packages of the extra dicom (boreside[dicom]): {error}"
                ) from None

            way = DicomWay(settings, spool, exam, serve, page.problem if page else None)
            stack.callback(way.close, settings.limits.stop_seconds)
        watch = None
        if page is not None:
            watch = Watch(page, spool, way.outbox if way else None)
            stack.callback(watch.close)
        yield WaysOut(exam, spool, way, page, watch)


class WaysOut:
    """What `ways_out` gives.

    Attributes
    ----------
    way : DicomWay or None
    page : Page or None
    watch : Watch or None
        Where there is a page.
    """

    def __init__(
        self,
        exam: Callable[[Header | None, str], str],
        spool: Spool,
        way: "DicomWay | None",
        page: Page | None,
        watch: Watch | None,
    ) -> None:
        self.way, self.page, self.watch = way, page, watch
        self._exam = exam
        self._spool = spool
        self._log = log.get(part="ways out")

    def measurement(self, name: str, peer: str = "") -> Outgoing:
        """Return the way of a measurement that a scanner is sending."""
        return Outgoing(name, self._exam, self.way, self.page, peer)

    def recovered(self, name: str) -> Outgoing | None:
        """Return the way of a measurement that is reconstructed again: to PACS only."""
        return self.way.recovered(name) if self.way is not None else None

    def make_good(self) -> None:
        """Make the DICOM objects that are owed of measurements whose images have left."""
        if self.way is not None:
            spool = self._spool
            owed = [name for name in spool.names() if spool.owed(name) is not None]
            self.way.make_anew([name for name in owed if spool.delivered(name)])

    def labelled(
        self, exam: str, series: str, labels: LabelMap, engines: Sequence[EngineUsed]
    ) -> None:
        """Take the labels of a series."""
        if self.way is not None:
            way = self.way
            self._attempt(lambda: way.labels(exam, series, labels, _names(engines)))
        if self.page is not None:
            page = self.page
            self._attempt(lambda: page.labels(exam, series, labels))

    def found(self, findings: ExamFindings, engines: Sequence[EngineUsed]) -> None:
        """Take what triage says after a series."""
        if self.way is not None:
            way = self.way
            self._attempt(lambda: way.findings(findings, _names(engines)))
        if self.page is not None:
            page = self.page
            self._attempt(lambda: page.found(findings))

    def summarised(self, summary: Summary) -> None:
        """Take the summary of an exam."""
        findings, engines = summary.findings, _names(summary.engines)
        if self.way is not None:
            way = self.way
            self._attempt(lambda: way.summary(findings, summary.pictures, engines))
        if self.page is not None:
            page = self.page
            self._attempt(lambda: page.summary(findings.exam, summary.series, summary.images))

    def _attempt(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            self._log.error("not handed on", exc_info=error)


def _names(engines: Sequence[EngineUsed]) -> tuple[str, ...]:
    return tuple(f"{used.name} {used.version} ({used.sha256[:12]})" for used in engines)
