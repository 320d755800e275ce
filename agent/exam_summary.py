"""The summary of an exam on its way: to the scanner as images, to PACS and page as pages.

Each time triage has spoken a new one is there. The scanner gets the latest within the next
measurement of the exam, after the images of that; PACS and page get it when all that was planned
has been looked at, after each series that comes still, and when the exam ends before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.audit_records import EngineUsed
from gadgets.finish import Finish
from gadgets.summary import SummaryPage, summary_images
from protocols.findings import ExamFindings
from protocols.header import Header
from protocols.mrd_types import ImageMessage


@dataclass(frozen=True)
class Summary:
    """Pages, what they show, and what took part.

    Attributes
    ----------
    pages : tuple of SummaryPage
    images : tuple of ImageMessage
        The same for the scanner: derived, of the quantity "summary".
    findings : ExamFindings
    engines : tuple of EngineUsed
    """

    pages: tuple[SummaryPage, ...]
    images: tuple[ImageMessage, ...]
    findings: ExamFindings
    engines: tuple[EngineUsed, ...]

    @classmethod
    def of(
        cls,
        pages: tuple[SummaryPage, ...],
        findings: ExamFindings,
        engines: tuple[EngineUsed, ...],
        header: Header,
    ) -> "Summary":
        """Return the summary of pages; ``header`` is that of a measurement of the exam."""
        made = Finish(header)(iter(summary_images(pages, findings)))
        images = tuple(image for image in made if isinstance(image, ImageMessage))
        return cls(pages, images, findings, engines)

    @property
    def series(self) -> str:
        """The series after which it was made."""
        return self.findings.series[-1]

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """Its pages, uint8 (page, y, x, rgb)."""
        return np.stack([page.picture for page in self.pages])

    def whole(self, planned: Sequence[str]) -> bool:
        """Return whether all steps that are planned have been looked at."""
        seen = self.findings.series
        return all(any(name == s or name.startswith(f"{s} ") for name in seen) for s in planned)
