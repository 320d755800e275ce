"""Telemetry of exams: what happens, for whoever listens on the control channel."""

import time
from collections.abc import Iterator
from typing import Any

from agent.trigger_states import Decision
from protocols.control import Telemetry


def telemetry(topic: str, exam: str, **values: Any) -> Telemetry:
    """Return one message; values that are None are left out, others than numbers become text."""
    said: dict[str, bool | int | float | str] = {}
    for key, value in values.items():
        if isinstance(value, bool | int | float):
            said[key] = value
        elif value is not None:
            said[key] = "".join(c if c.isprintable() else " " for c in str(value))[:1000]
    return Telemetry(topic=topic, at_s=time.time(), exam=exam, values=said)


def of_decision(exam: str, decision: Decision) -> Iterator[Telemetry]:
    """Yield what the trigger machine has decided: transitions, and questions only noted."""
    for step in decision.transitions:
        yield telemetry(
            "trigger",
            exam,
            trigger=step.trigger,
            before=step.before,
            state=step.after,
            reason=step.reason,
            detail=step.detail,
        )
    for noted in decision.would_ask:
        yield telemetry("would_ask", exam, trigger=noted.trigger, text=noted.text)
