"""Settings of what goes to the hospital as DICOM (`agent.dicom`, `agent.worklist`)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

AETitle = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._\-]{0,14}[A-Za-z0-9._\-]?$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Section):
    """TLS to a peer: at least version 1.2, as PS3.15 B.9 (BCP 195) wants.

    Attributes
    ----------
    ca : path
        PEM file of the authorities that may have signed the peer's certificate.
    certificate, key : path
        PEM files of our own.
    """

    ca: Path
    certificate: Path
    key: Path


class WorklistSettings(_Section):
    """Where the modality worklist is asked who lies on the table.

    Attributes
    ----------
    host, port, ae_title
        Of the worklist.
    station_ae_title : str
        The scanner's, as procedure steps are scheduled for it.
    timeout_s : float
        After that the MRD header's own identity is used.
    tls : Tls or None
    """

    host: str
    port: int = Field(default=104, ge=1, le=65535)
    ae_title: AETitle
    station_ae_title: AETitle
    timeout_s: float = Field(default=10, gt=0)
    tls: Tls | None = None


class DicomSettings(_Section):
    """How images are written.

    Attributes
    ----------
    objects : str
        "classic": one MR Image for each slice, as it leaves. "enhanced": one multi-frame Enhanced
        MR Image for each series (and contrast, repetition, ...), when the measurement ends.
    ae_title : str
        Ours, to every peer.
    station_name, serial_number : str
        Of this agent.
    safety_agency : str
        Whose safety standard the scanner keeps to; Enhanced MR Images have to say so.
    simulated_systems : tuple of str
        System models, in the MRD header, whose data are not of patients. Their objects say
        Synthetic Data = YES.
    worklist : WorklistSettings or None
    """

    objects: Literal["classic", "enhanced"] = "classic"
    ae_title: AETitle = "BORESIDE"
    station_name: str = Field(default="BORESIDE", max_length=16)
    serial_number: str = Field(default="1", min_length=1, max_length=64)
    safety_agency: Literal["IEC", "FDA", "MHLW"] = "IEC"
    simulated_systems: tuple[str, ...] = ("Virtual scanner",)
    worklist: WorklistSettings | None = None
