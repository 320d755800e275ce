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
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

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


@dataclass
class _Task(Generic[Item]):
    item: Item
    future: "Future[Any] | None" = None

    @property
    def finished(self) -> bool:
        future = self.future
        return (
            future is not None
            and future.done()
            and not future.cancelled()
            and not isinstance(future.exception(), BrokenProcessPool)
        )


def _pool(workers: int) -> ProcessPoolExecutor:
    # Forked processes would inherit threads and locks of this one.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _on_processes(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    left = iter(items)
    tasks: deque[_Task[Item]] = deque()
    lost = 0
    pool = _pool(workers)
    try:
        while True:
            tasks.extend(_Task(item) for item in islice(left, workers * AHEAD - len(tasks)))
            if not tasks:
                return
            try:
                for task in tasks:
                    task.future = task.future or pool.submit(work, task.item)
                assert tasks[0].future is not None  # handed over just now
                result = tasks[0].future.result()
            except BrokenProcessPool:
                # One dead worker breaks the whole pool; what it had finished is kept.
                lost += 1
                if lost == ATTEMPTS:
                    raise FleetError(
                        f"workers died {lost} times without a result: too little memory, or an "
                        "item that no worker survives"
                    ) from None
                pool.shutdown(wait=False, cancel_futures=True)
                pool = _pool(workers)
                for task in tasks:
                    task.future = task.future if task.finished else None
                continue
            lost = 0
            tasks.popleft()
            yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


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
