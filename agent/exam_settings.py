"""Settings of the looking at exams (`agent.exams`) and of the audit."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ExamSettings(BaseModel):
    """What is done with the series of an exam, beside the delivery of its images.

    Attributes
    ----------
    protocol : str
        Exam protocol of exams whose console names none.
    folder : path
        Of the site's own protocols.
    triage : bool
        False: series are labelled and their quality is judged, and nothing is concluded.
    deadline_s : float
        Within which one series must have been looked at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str = "lumbar"
    folder: Path = Path("exam-protocols")
    triage: bool = True
    deadline_s: float = Field(default=60, gt=0)


class AuditSettings(BaseModel):
    """Where the audit is written (`agent.audit`), of agents that look at exams."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path = Path("audit")
