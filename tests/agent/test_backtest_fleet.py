"""The same numbers on one process, on two, on Ray, and when a worker is killed half-way."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.backtest import Backtest, backtest
from agent.backtest_target import Target
from agent.backtest_work import Job, replay_chunk
from agent.fleet import FleetError, spread
from agent.replay import Answers
from protocols.archive import exam_lines
from protocols.exam_library import library
from protocols.findings import FindingType, Structure
from scanner.findings_archive import simulate

LUMBAR = library()["lumbar"].protocol


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "archive"
    simulate(folder, exams=260, prevalence=0.3, seed=4)
    return folder


@pytest.fixture(scope="module")
def expected(archive: Path) -> Backtest:
    return backtest([LUMBAR], archive, workers=1)


def own_processes() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid]


def ray_workers() -> list[int]:
    """Return Ray workers that replay, below this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                if command.startswith(b"ray::replay_chunk") and _below(int(entry.name)):
                    found.append(int(entry.name))
            except OSError:
                pass  # it has ended meanwhile
    return found


def _below(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        status = Path(f"/proc/{pid}/stat").read_text()
        pid = int(status.rpartition(")")[2].split()[1])
    return False


@contextmanager
def one_killed(workers: Callable[[], list[int]]) -> Iterator[list[int]]:
    """Kill the first worker that is seen."""
    killed: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while not over.is_set() and not killed:
            for pid in workers()[:1]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(pid)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield killed
    finally:
        over.set()
        hunter.join()


def test_two_processes(archive: Path, expected: Backtest) -> None:
    assert backtest([LUMBAR], archive, workers=2) == expected


def test_a_process_killed_half_way_changes_nothing(archive: Path) -> None:
    target = Target(FindingType.OEDEMA_LIKE, (Structure.SACRAL_SUBCHONDRAL,))
    lines = list(exam_lines(archive))
    jobs = [
        Job((LUMBAR.model_dump_json(),), target, Answers(), tuple(lines[i : i + 10]))
        for i in range(0, 120, 10)
    ]
    results = spread(replay_chunk, jobs, workers=2)
    first = next(results)
    os.kill(own_processes()[0], signal.SIGKILL)
    assert [first, *results] == [replay_chunk(job) for job in jobs]


def test_a_process_killed_at_any_moment_changes_nothing(archive: Path, expected: Backtest) -> None:
    with one_killed(own_processes) as killed:
        result = backtest([LUMBAR], archive, workers=2)
    assert len(killed) == 1
    assert result.model_dump_json() == expected.model_dump_json()


def test_work_that_no_worker_survives() -> None:
    with pytest.raises(FleetError, match="died 4 times"):
        list(spread(os._exit, [1], workers=2))


def test_an_error_of_the_work_is_the_callers() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(spread(int, ["1", "x"], workers=2))


def test_results_in_order() -> None:
    assert list(spread(abs, range(-40, 0), workers=2)) == list(range(40, 0, -1))
    assert list(spread(abs, [], workers=2)) == []


def test_ray(archive: Path, expected: Backtest) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'boreside[fleet]'")
    assert backtest([LUMBAR], archive, workers=2, ray="local") == expected


def test_a_ray_worker_killed_half_way_changes_nothing(archive: Path, expected: Backtest) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'boreside[fleet]'")
    with one_killed(ray_workers) as killed:
        result = backtest([LUMBAR], archive, workers=2, ray="local")
    assert len(killed) == 1
    assert result.model_dump_json() == expected.model_dump_json()


def test_no_cluster_there() -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'boreside[fleet]'")
    with pytest.raises(FleetError, match="no Ray cluster at"):
        list(spread(abs, [1], ray="no-such-scheme://here"))
