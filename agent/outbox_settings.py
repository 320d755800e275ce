"""Settings of the outbox (`agent.outbox`)."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.dicom_settings import AETitle, Tls


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Destination(_Section):
    """One PACS.

    Attributes
    ----------
    name : str
        In logs and in the outbox; another name is another destination.
    host, port, ae_title
    commitment : bool
        Whether it is asked to commit itself to what it took (Storage Commitment): until it has, the
        files are kept, and sent again where it says that it has lost them.
    tls : Tls or None
    """

    name: str = Field(min_length=1, max_length=64)
    host: str
    port: int = Field(default=104, ge=1, le=65535)
    ae_title: AETitle
    commitment: bool = False
    tls: Tls | None = None


class OutboxSettings(_Section):
    """Where objects wait, and where they go.

    Attributes
    ----------
    folder : path
        Holds patient data.
    destinations : tuple of Destination
        None of them: nothing is written as DICOM.
    timeout_s : float
        For a peer to answer.
    first_retry_s, longest_retry_s : float
        A destination that fails is left alone for the first time, and twice as long each time after
        that, up to the longest.
    listen_host, listen_port : str, int or None
        Where a PACS calls back to say what it commits itself to. None: it answers on our own
        connection, or not at all.
    listen_tls : Tls or None
    answer_s : float
        How long an answer may take. Then what has no answer is asked for anew.
    """

    folder: Path = Path("outbox")
    destinations: tuple[Destination, ...] = ()
    timeout_s: float = Field(default=30, gt=0)
    first_retry_s: float = Field(default=2, gt=0)
    longest_retry_s: float = Field(default=300, gt=0)
    listen_host: str = "127.0.0.1"
    listen_port: int | None = Field(default=None, ge=0, le=65535)
    listen_tls: Tls | None = None
    answer_s: float = Field(default=3600, gt=0)

    @model_validator(mode="after")
    def _distinct(self) -> "OutboxSettings":
        names = [destination.name for destination in self.destinations]
        if len(set(names)) < len(names):
            raise ValueError(f"expected a different name for each destination, got {names}")
        return self
