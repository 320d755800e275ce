"""The same work on one process, on several, or on a Ray cluster, with the same results.

    for result in spread(work, items, workers=2): ...
    for result in spread(work, items, ray="auto"): ...

`work` is a function of a module and depends on its item alone, so that an item may be done again:
a worker that dies costs time and nothing else. Results come in the order of the items.
"""

import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ATTEMPTS = 4
"""Of one item, before it is to blame."""

AHEAD = 3
"""Items under way for each worker: the archive is never all in memory."""


class FleetError(RuntimeError):
    """No workers, or workers that keep dying."""


def spread(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int = 1,
    ray: str | None = None,
) -> Iterator[Result]:
    """Yield the result of every item, in order.

    Parameters
    ----------
    work : function of a module
    items : iterable
    workers : int
        Processes on this machine; with 1 it is done in this process.
    ray : str, optional
        Address of a Ray cluster, "auto" for the one this machine is in, "local" to start one of
        `workers` here.

    Raises
    ------
    FleetError
        Ray is not installed or has no cluster there; or an item has lost its worker too often.
    """
    if ray is not None:
        yield from _on_ray(work, items, workers, ray)
    elif workers == 1:
        yield from map(work, items)
    else:
        yield from _on_processes(work, items, workers)


class _Worker:
    """A process of its own pipe: where it dies, nobody else waits for what it held."""

    def __init__(self) -> None:
        # Forked processes would inherit threads and locks of this one.
        self._spawn = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._spawn.Pipe()
        self._process = self._spawn.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that its death ends the pipe

    def do(self, work: Callable[[Item], Result], item: Item) -> Result:
        """Return the result of an item, in another process where this one dies."""
        for _ in range(ATTEMPTS):
            try:
                self._pipe.send((work, item))
                done, result = self._pipe.recv()
            except (EOFError, OSError):
                self.stop()
                self._start()
                continue
            if not done:
                raise result
            return result
        raise FleetError(
            f"a worker died {ATTEMPTS} times on one item: too little memory, or an item that no "
            "worker survives"
        )

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: "Connection[Any, Any]") -> None:
    """Be a worker until the other end is closed."""
    while True:
        try:
            work, item = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, work(item)
        except Exception as error:
            answer = False, error
        pipe.send(answer)


def _on_processes(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    crew = [_Worker() for _ in range(workers)]
    free: SimpleQueue[_Worker] = SimpleQueue()
    for worker in crew:
        free.put(worker)

    def do(item: Item) -> Result:
        worker = free.get()
        try:
            return worker.do(work, item)
        finally:
            free.put(worker)

    threads = ThreadPoolExecutor(workers)
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(threads.submit(do, item))
            if len(under_way) == workers * AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
        for worker in crew:
            worker.stop()


def _on_ray(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, address: str
) -> Iterator[Result]:
    try:
        import ray
    except ImportError:
        raise FleetError(
            "expected Ray for a cluster; install it with: pip install 'boreside[fleet]'"
        ) from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports home otherwise
    here: dict[str, Any] = (
        {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    )
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise FleetError(f"no Ray cluster at {address}: {error}") from None
    try:
        remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(work)
        ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        under_way: deque[Any] = deque()
        for item in items:
            under_way.append(remote.remote(item))
            if len(under_way) == ahead:
                yield ray.get(under_way.popleft())
        while under_way:
            yield ray.get(under_way.popleft())
    except ray.exceptions.WorkerCrashedError as error:
        raise FleetError(f"a Ray worker died {ATTEMPTS} times on one item: {error}") from None
    finally:
        ray.shutdown()
