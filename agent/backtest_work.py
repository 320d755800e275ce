"""What a worker of a backtest does: replay some exams under some protocols, knowing no truth."""

from dataclasses import dataclass
from functools import lru_cache

from agent.backtest_target import Target, judged_triggers, with_threshold
from agent.replay import Answers, Replayed, replay
from protocols.archive import read_exam
from protocols.exam import ExamProtocol

THRESHOLDS = tuple(round(0.15 + 0.05 * i, 2) for i in range(17))
"""Of the sweep: 0.15 to 0.95."""


@dataclass(frozen=True)
class Job:
    """One piece of work: exams as they are written, protocols as JSON."""

    protocols: tuple[str, ...]
    target: Target
    answers: Answers
    lines: tuple[bytes, ...]


@dataclass(frozen=True)
class ExamResult:
    """One exam under one protocol.

    Attributes
    ----------
    replayed : Replayed
    score : float
        The highest probability of a finding the archive is about, after any series; 0 of none.
    said : tuple
        Side and probability of each such finding, after the last series.
    swept : tuple of bool
        Whether it asks, at each of `THRESHOLDS`; empty where there is nothing to sweep.
    swept_minutes : tuple of float
    """

    replayed: Replayed
    score: float
    said: tuple[tuple[str, float], ...]
    swept: tuple[bool, ...]
    swept_minutes: tuple[float, ...]


def replay_chunk(job: Job) -> list[list[ExamResult]]:
    """Replay some exams: the results of each protocol, in the order of the exams."""
    exams = [read_exam(line) for line in job.lines]
    results = []
    for text in job.protocols:
        protocol, swept = _variants(text, job.target)
        names = judged_triggers(protocol, job.target)
        of_protocol = []
        for exam in exams:
            score, said = job.target.evidence(exam)
            replayed = replay(protocol, exam, job.answers)
            # Without a finding to compare with it, a threshold changes nothing.
            at = [replay(each, exam, job.answers) if score else replayed for each in swept]
            of_protocol.append(
                ExamResult(
                    replayed=replayed,
                    score=score,
                    said=said,
                    swept=tuple(each.asked(names) for each in at),
                    swept_minutes=tuple(each.minutes for each in at),
                )
            )
        results.append(of_protocol)
    return results


@lru_cache(maxsize=4)
def _variants(text: str, target: Target) -> tuple[ExamProtocol, tuple[ExamProtocol, ...]]:
    protocol = ExamProtocol.model_validate_json(text)
    if not judged_triggers(protocol, target):
        return protocol, ()
    return protocol, tuple(with_threshold(protocol, target, up) for up in THRESHOLDS)
