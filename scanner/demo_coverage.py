"""What the demo shows of coverage on demand: two simulated patients, one question, extra slices.

A scripted technologist accepts whatever is asked. What the agent saw and decided is taken from its
own telemetry; what was there to be seen is the scanner's truth, which the agent never gets.
"""

import time
from typing import Any, NamedTuple

import numpy as np

from protocols.control import CoverageRequest, Outcome
from protocols.exam import ExamProtocol
from protocols.exam_library import library
from scanner.console_adapter import Answer
from scanner.console_virtual import VirtualConsole
from scanner.disease import disease
from scanner.phantom import LumbarSpine, SpineParameters
from scanner.phantom.lesion_truth import lesion_truth

PROTOCOL = "lumbar"
SHOWN_S = 15.0
"""How long a question stands on the page before the scripted technologist answers."""


class Patient(NamedTuple):
    """A simulated patient: name, the seed of its lesions, their family."""

    name: str
    seed: int
    family: str

    def spine(self) -> LumbarSpine:
        spine = LumbarSpine(SpineParameters())
        return spine.with_lesions(disease(np.random.default_rng(self.seed), spine, self.family))


WITH_OEDEMA = Patient("exam", 29, "si_oedema")
HEALTHY = Patient("healthy", 7, "healthy")


def protocol() -> ExamProtocol:
    """Return the exam protocol which both sides have."""
    return library()[PROTOCOL].protocol


def accept(request: CoverageRequest) -> Answer:
    """The scripted technologist."""
    return Answer(Outcome.ACCEPTED)


def accept_later(request: CoverageRequest) -> Answer:
    """The scripted technologist, who lets people answer on the page first."""
    time.sleep(SHOWN_S)
    return accept(request)


def facts(patient: Patient, spine: LumbarSpine, console: VirtualConsole) -> dict[str, Any]:
    """Return what was there, what was asked and why, and what became of it, for the summary."""
    told = console.telemetry
    asked = [message.values for message in told if message.topic == "request"]
    return {
        "patient": patient.name,
        "simulated": True,
        "truth": [
            {
                "type": each.type,
                "structure": each.structure,
                "side": each.side,
                "volume_ml": round(each.volume_ml, 2),
            }
            for each in lesion_truth(spine)
        ],
        "findings": list({m.values["id"]: m.values for m in told if m.topic == "finding"}.values()),
        "series": [message.values for message in told if message.topic == "series"],
        "asked": [
            {
                **values,
                "why": [
                    m.values["detail"]
                    for m in told
                    if m.topic == "trigger" and m.values["trigger"] == values["trigger"]
                ],
            }
            for values in asked
        ],
        "not_asked_because": [] if asked else last_reasons(console),
        "answers": [message.values for message in told if message.topic == "reply"],
        "scanned": [step.name for step in console.extra],
    }


def last_reasons(console: VirtualConsole) -> list[str]:
    """Return where each trigger stood in the end, and why."""
    last = {m.values["trigger"]: m.values for m in console.telemetry if m.topic == "trigger"}
    return [f"{name}: {v['state']}, {v['detail']}" for name, v in last.items()]


def lines(found: dict[str, Any]) -> list[str]:
    """Return the facts of a patient in words."""
    said = [f"{found['patient']}: {len(found['findings'])} findings by the agent"]
    for asked in found["asked"]:
        seconds = asked.get("decision_seconds")
        after = f", {seconds:.1f} s after the last readout" if seconds is not None else ""
        said.append(f'  asked{after}: "{asked["text"]}"')
    if not found["asked"]:
        said += ["  nothing was asked", *(f"    {why}" for why in found["not_asked_because"])]
    said += [f"  answered: {answer['outcome']}" for answer in found["answers"]]
    said += [f"  scanned: {name}" for name in found["scanned"]]
    return said
