"""Settings of the console's process; the section `console` of agent.yaml."""

import ipaddress
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.trigger_site import SitePolicy


class Role(StrEnum):
    """What somebody may do on the page."""

    VIEWER = "viewer"
    """Look at the exam."""
    TECHNOLOGIST = "technologist"
    """Answer the agent's questions."""
    ENGINEER = "engineer"
    """Publish protocols, and see connections and log."""
    ADMIN = "admin"
    """All of that."""


ANSWER = (Role.TECHNOLOGIST, Role.ADMIN)
ENGINEER = (Role.ENGINEER, Role.ADMIN)
REQUEST = (Role.TECHNOLOGIST, Role.ENGINEER, Role.ADMIN)


class ConsoleSettings(BaseModel):
    """Where the page is served, and what it shows.

    Attributes
    ----------
    events : path
        Folder of `agent.events`.
    folder : path
        The console's own: accounts, sessions and the audit of clicks.
    site : path
        The site's exam protocols, where `publish` writes to.
    reports : path
        Backtest reports (`boreside backtest --out`).
    requests : path or None
        Folder of requests after the scan (`agent.requests`); None: the page has no button for them.
    certificate, key : path or None
        PEM files; with them the page is served over TLS.
    courses : path or None
        What the agent's triggers noted in each exam (`agent.coverage_store`).
    policy : SitePolicy
        The agent's section `site`.
    guest : Role or None
        Of whoever has not logged in; only on the loopback interface.
    session_hours : float
        After which one logs in again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=9080, ge=0, le=65535)
    events: Path = Path("events")
    folder: Path = Path("console")
    site: Path = Path("exam-protocols")
    reports: Path = Path("reports")
    requests: Path | None = None
    courses: Path | None = None
    policy: SitePolicy = SitePolicy()
    certificate: Path | None = None
    key: Path | None = None
    guest: Role | None = None
    session_hours: float = Field(default=12, gt=0, le=168)

    @model_validator(mode="after")
    def _safe(self) -> "ConsoleSettings":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("expected certificate and key together, for TLS")
        if self.guest is not None and not self.loopback:
            raise ValueError(
                f"guest: expected a loopback host such as 127.0.0.1 without login, got {self.host}"
            )
        if self.certificate is None and not self.loopback:
            raise ValueError(
                f"host: expected certificate and key (TLS) for {self.host}: passwords would "
                "travel in clear text"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
