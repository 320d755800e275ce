"""Backtest: a protocol's triggers over an archive of recorded exams, judged by its truth.

    result = backtest([protocol, other], Path("archive"), workers=2)
    Path("numbers.json").write_text(result.model_dump_json(indent=1))

Workers see recorded exams, never the truth: it joins their results here. The numbers depend on
neither how many workers there are nor where they run.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from agent.backtest_judge import Difference, Judge, Judged, compare
from agent.backtest_numbers import Numbers
from agent.backtest_target import Target, judged_triggers
from agent.backtest_work import Job, replay_chunk
from agent.fleet import spread
from agent.replay import Answers
from protocols.archive import About, exam_lines, read_about, read_truth
from protocols.exam import ExamProtocol

CHUNK = 50
"""Exams of one piece of work."""


class BacktestError(ValueError):
    """An archive or a protocol from which nothing can be learnt."""


class Backtest(Numbers):
    """All that a backtest has to say.

    Attributes
    ----------
    protocols : tuple of Judged
        One, or two to be compared.
    differ : tuple of Difference
        Where two do not decide alike.
    """

    version: str = "1"
    archive: About
    accepts: float
    answer_after_s: float
    protocols: tuple[Judged, ...]
    differ: tuple[Difference, ...] = ()


def backtest(
    protocols: Sequence[ExamProtocol],
    archive: Path,
    workers: int = 1,
    ray: str | None = None,
    answers: Answers | None = None,
) -> Backtest:
    """Replay an archive under one protocol, or under two.

    Parameters
    ----------
    protocols : sequence of ExamProtocol
    archive : Path
    workers, ray
        As of `agent.fleet.spread`.
    answers : Answers, optional
        By default every question is accepted.

    Raises
    ------
    BacktestError
        There are no exams, an exam comes twice or has no truth, or a protocol has no trigger for
        what the archive is about and scans nothing else either.
    ArchiveError
    FleetError
    """
    answers = answers or Answers()
    about = read_about(archive)
    truths = read_truth(archive)
    target = Target(about.finding, about.structures)
    judges = [Judge(protocol, target) for protocol in protocols]
    seen: set[str] = set()
    jobs = _jobs(protocols, target, answers, archive)
    for of_protocols in spread(replay_chunk, jobs, workers, ray):
        for replayed in (result.replayed for result in of_protocols[0]):
            if replayed.exam in seen:
                raise BacktestError(
                    f"{archive}: expected each exam once, got {replayed.exam} again"
                )
            if replayed.exam not in truths:
                raise BacktestError(f"{archive}: expected a truth of exam {replayed.exam}")
            seen.add(replayed.exam)
        for judge, results in zip(judges, of_protocols):
            for result in results:
                judge.add(result, truths[result.replayed.exam])
    if not seen:
        raise BacktestError(f"{archive}: expected exams, found none")
    for protocol, judge in zip(protocols, judges):
        if not judged_triggers(protocol, target) and not judge.always:
            raise BacktestError(
                f"{protocol.name}: expected a trigger that looks for {target.text}, or planned "
                "steps which the recorded exams did not have; found neither"
            )
    return Backtest(
        archive=about,
        accepts=answers.accepts,
        answer_after_s=answers.after_s,
        protocols=tuple(judge.judged() for judge in judges),
        differ=compare(*judges) if len(judges) == 2 else (),
    )


def _jobs(
    protocols: Sequence[ExamProtocol], target: Target, answers: Answers, archive: Path
) -> Iterator[Job]:
    texts = tuple(protocol.model_dump_json() for protocol in protocols)
    lines = exam_lines(archive)
    while chunk := tuple(islice(lines, CHUNK)):
        yield Job(texts, target, answers, chunk)
