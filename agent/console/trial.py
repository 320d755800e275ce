"""What is known of a protocol before it asks: threshold sweeps of backtests, and shadow mode."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from agent.coverage_store import Course
from agent.trigger_site import SitePolicy, SiteState, TriggerHistory
from agent.trigger_states import State

LARGEST_REPORT = 64 << 20
LATEST = 100
"""Exams whose questions are shown."""


def sweeps(reports: Path, protocol: str) -> list[dict[str, Any]]:
    """Return the threshold sweeps of a protocol: the numbers beside backtest reports.

    Returns
    -------
    list of dict
        ``report``, ``revision``, ``exams``, ``operating`` (thresholds in force) and ``points``:
        ``up``, ``sensitivity`` and ``specificity`` (``value``, ``low``, ``high``),
        ``asks_per_100``, ``minutes_per_exam``.
    """
    found = []
    for path in sorted(reports.glob("*.json")) if reports.is_dir() else ():
        try:
            if path.stat().st_size > LARGEST_REPORT:
                continue
            judged = json.loads(path.read_text())["protocols"]
            found += [
                {
                    "report": path.stem,
                    "revision": each["revision"],
                    "exams": each["exams"],
                    "operating": each["operating_up"],
                    "points": each["sweep"],
                }
                for each in judged
                if each["protocol"] == protocol and each["sweep"]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # No report of ours.
    return found


def shadow(courses: Path | None, policy: SitePolicy, protocol: str) -> dict[str, Any]:
    """Return what the triggers of a protocol noted, and would have asked.

    Parameters
    ----------
    courses : Path or None
        File of the agent's `agent.coverage_store`, which is only read.
    policy : SitePolicy
    protocol : str

    Returns
    -------
    dict
        ``triggers``: ``name``, ``exams``, ``held`` (of the latest ``of``), ``standing``;
        ``questions``, the latest first: ``at_s``, ``exam``, ``trigger``, ``text``, ``minutes``.
    """
    if courses is None or not courses.is_file():
        return {"triggers": [], "questions": []}
    file = sqlite3.connect(f"file:{courses.absolute()}?mode=ro", uri=True, timeout=2)
    try:
        site = file.execute("SELECT state FROM site").fetchone()
        rows = file.execute(
            "SELECT course, at_s FROM exams ORDER BY at_s DESC LIMIT ?", (LATEST,)
        ).fetchall()
    finally:
        file.close()
    state = SiteState() if site is None else SiteState.model_validate_json(site[0])
    triggers = [
        {
            "name": key.partition("/")[2],
            "exams": history.exams,
            "held": sum(history.recent),
            "of": len(history.recent),
            "standing": _standing(history, policy),
        }
        for key, history in sorted(state.triggers.items())
        if key.partition("/")[0] == protocol
    ]
    questions = []
    for raw, at_s in rows:
        course = Course.model_validate_json(raw)
        if course.protocol != protocol or course.machine is None:
            continue
        for name, trigger in course.machine.triggers.items():
            if trigger.state is State.SHADOWED and trigger.proposal:
                questions.append(
                    {
                        "at_s": at_s,
                        "exam": course.exam,
                        "trigger": name,
                        "text": trigger.proposal.text,
                        "minutes": trigger.proposal.minutes,
                    }
                )
    return {"triggers": triggers, "questions": questions}


def _standing(history: TriggerHistory, policy: SitePolicy) -> str:
    """Return "asks", or why a trigger does not."""
    if history.breaker:
        return history.breaker
    if policy.mode == "shadow":
        return "shadow mode"
    if policy.mode == "commissioning" and history.exams < policy.shadow_exams:
        return f"shadow mode: {history.exams} of {policy.shadow_exams} exams"
    return history.quiet or "asks"
