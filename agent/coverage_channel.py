"""Where the coverage loop puts its questions: over ZeroMQ (`agent.control`), or in-band."""

from collections.abc import Iterator
from typing import Protocol

from agent.control_store import Reply
from protocols.control import CoverageRequest, Telemetry, Withdraw


class Channel(Protocol):
    """As `agent.control.ControlChannel`, whose docstrings hold."""

    def request(self, request: CoverageRequest) -> bool: ...

    def withdraw(self, withdraw: Withdraw) -> bool: ...

    def state(self, request: str) -> str | None: ...

    def recorded(self, request: str) -> list[Reply]: ...

    def sent_ns(self, request: str, wait_s: float) -> int | None: ...

    def replies(self, wait_s: float) -> Iterator[Reply]: ...

    def publish(self, telemetry: Telemetry) -> None: ...
