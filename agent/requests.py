"""Requests after the scan: what may still be made of a measurement that lies in the spool.

    request = Request.of(measurement, Contrast(tr_ms=4000, te_ms=100), user="anna")

The console's button and `boreside request` write them down (`agent.requests_store`); a worker of
lowest priority does one after the other (`agent.requests_worker`). Nothing heavy is imported here.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

LONGEST_MS = 60_000.0
Milliseconds = Annotated[float, Field(gt=0, le=LONGEST_MS, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RequestSettings(_Record):
    """The section `requests` of agent.yaml.

    Attributes
    ----------
    folder : path
        Requests and their results; it holds images of patients.
    """

    folder: Path = Path("requests")


class Contrast(_Record):
    """A synthetic spin echo of the relaxation maps of a multi-delay multi-echo measurement.

    Attributes
    ----------
    tr_ms, te_ms : float
    ti_ms : float or None
        With an inversion, so long before the excitation.
    """

    kind: Literal["contrast"] = "contrast"
    tr_ms: Milliseconds
    te_ms: Milliseconds
    ti_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _possible(self) -> "Contrast":
        if (self.ti_ms or 0) + self.te_ms >= self.tr_ms:
            raise ValueError("expected TI + TE below TR: no sequence has other times")
        return self

    @property
    def words(self) -> str:
        """What is wanted, for people."""
        inversion = f" TI {self.ti_ms:g}" if self.ti_ms else ""
        return f"synthetic TR {self.tr_ms:g} TE {self.te_ms:g}{inversion}"


class FieldOfView(_Record):
    """The reconstruction with all of the field of view that was encoded, also along the readout."""

    kind: Literal["field_of_view"] = "field_of_view"

    @property
    def words(self) -> str:
        """What is wanted, for people."""
        return "larger field of view"


class OtherChain(_Record):
    """The reconstruction by another chain of `agent.chains`."""

    kind: Literal["chain"] = "chain"
    chain: str = Field(min_length=1, max_length=64)

    @property
    def words(self) -> str:
        """What is wanted, for people."""
        return f"reconstructed as {self.chain}"


class Enhancement(_Record):
    """Virtual contrast enhancement of T1w, T2w and STIR of the measurement's exam: research."""

    kind: Literal["enhancement"] = "enhancement"

    @property
    def words(self) -> str:
        """What is wanted, for people."""
        return "virtual enhancement"


Wanted = Annotated[Contrast | FieldOfView | OtherChain | Enhancement, Field(discriminator="kind")]
WANTED: TypeAdapter[Wanted] = TypeAdapter(Wanted)


class Request(_Record):
    """One request.

    Attributes
    ----------
    id : str
        The same id is the same request: it is done once.
    measurement : str
        The spool's name of it.
    user : str
        Who asked.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    measurement: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    wanted: Wanted
    user: str = Field(default="", max_length=64)

    @classmethod
    def of(cls, measurement: str, wanted: Wanted, user: str = "", id: str = "") -> "Request":
        """Return a request, by default with an id that the same wish always has.

        Raises
        ------
        pydantic.ValidationError
        """
        if not id:
            text = f"{measurement} {wanted.model_dump_json()}"
            id = hashlib.sha256(text.encode()).hexdigest()[:32]
        return cls(id=id, measurement=measurement, wanted=wanted, user=user)


State = Literal["waiting", "running", "done", "refused", "failed"]
"""Refused: it cannot be made, and why. Failed: it should have been possible."""


class Standing(_Record):
    """What has become of a request.

    Attributes
    ----------
    reason : str
        Why there are no images, or not all of them everywhere.
    images : int
    series : str
        Names of the result's series on the page begin so.
    seconds : float
        It took, once begun.
    at_s : float
        When it was asked for, since 1970.
    """

    request: Request
    state: State
    reason: str = ""
    images: int = 0
    series: str = ""
    seconds: float = 0.0
    at_s: float = 0.0

    @property
    def open(self) -> bool:
        """Whether it is still to be done."""
        return self.state in ("waiting", "running")
