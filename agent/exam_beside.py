"""What one measurement has to do with its exam: its series go there, and talk about coverage.

It stands beside delivery: nothing here raises, and nothing waits.
"""

from collections.abc import Iterable

from agent import log
from agent.control_inband import InBand
from agent.exams import ExamBook
from gadgets.items import Series
from protocols.control import (
    ControlError,
    ControlMessage,
    CoverageReply,
    CoverageRequest,
    Refusal,
    Refused,
    UnsupportedVersion,
    Withdraw,
)
from protocols.control_inband import from_text, to_text
from protocols.header import Header
from protocols.mrd_types import ImageMessage, Text


class Beside:
    """One measurement's side of its exam.

    Parameters
    ----------
    book : ExamBook
    in_band : InBand or None
        Of scanners without ZeroMQ.
    """

    def __init__(self, book: ExamBook, in_band: InBand | None) -> None:
        self._book = book
        self._in_band = in_band
        self._said_as_text: set[str] = set()
        self._said_with_image: set[str] = set()
        self._log = log.get(part="exams")

    def take(self, header: Header, series: Series) -> None:
        """Take a series whose images have left."""
        try:
            self._book.take(header, series)
        except Exception as error:
            self._log.error("series not taken", exc_info=error)

    def pages(self, header: Header) -> tuple[ImageMessage, ...]:
        """Return the exam's latest summary for its scanner, if it is a new one."""
        try:
            return self._book.pages(header)
        except Exception as error:
            self._log.error("no summary", exc_info=error)
            return ()

    def hear(self, text: Text) -> list[Text] | None:
        """Take a text of the scanner; return the answers, None where it is an ordinary one."""
        if self._in_band is None:
            return None
        try:
            message = from_text(text)
            return None if message is None else _texts(self._in_band.take(message))
        except UnsupportedVersion as error:
            refusal = Refused(reason=Refusal.UNSUPPORTED_VERSION, detail=str(error))
            return _texts([refusal])
        except Exception as error:
            self._log.warning("in-band message not taken", reason=type(error).__name__)
            return []

    def texts(self) -> list[Text]:
        """Return the questions which this measurement has not said yet."""
        return _texts(self._to_say(self._said_as_text))

    def for_image(self) -> ControlMessage | None:
        """Return the question that goes with the next image."""
        messages = self._to_say(self._said_with_image)
        self._said_with_image.difference_update(each.id for each in messages[1:])
        return messages[0] if messages else None

    def _to_say(self, said: set[str]) -> list[CoverageRequest | Withdraw | CoverageReply]:
        if self._in_band is None:
            return []
        try:
            return self._in_band.to_say(said)
        except Exception as error:
            self._log.error("in-band channel stumbled", exc_info=error)
            return []


def _texts(messages: Iterable[ControlMessage]) -> list[Text]:
    texts = []
    for message in messages:
        try:
            texts.append(to_text(message))
        except ControlError:
            continue
    return texts
