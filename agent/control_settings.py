"""Settings of the control channel (`agent.control`)."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ControlSettings(BaseModel):
    """Where consoles connect, one channel for each scanner.

    Attributes
    ----------
    host, port, telemetry_port : str, int, int
        To listen on; port 0 takes a free one.
    keys : path or None
        Folder of CURVE keys (`boreside keys`). None: no encryption and everybody is admitted, which
        is allowed on the loopback interface only.
    store : path
        SQLite file of questions and answers.
    heartbeat_s : float
        Between two heartbeats. A console is gone after three without a word.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=9003, ge=0, le=65535)
    telemetry_port: int = Field(default=9004, ge=0, le=65535)
    keys: Path | None = Path("keys")
    store: Path = Path("control.sqlite")
    heartbeat_s: float = Field(default=2, gt=0, le=60)

    @model_validator(mode="after")
    def _guarded(self) -> "ControlSettings":
        if self.keys is None and self.host not in LOOPBACK:
            raise ValueError(f"expected keys, or host 127.0.0.1, got host {self.host} without keys")
        return self
