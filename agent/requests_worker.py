"""Requests, done one after the other by a process that never delays a measurement.

    with keeper(settings):      # the agent: a worker whenever something waits
        ...
    work(settings, idle_s=0)    # or here and now

On Linux a worker runs only when nobody else wants the processor (SCHED_IDLE). One at a time: it
holds a lock in the requests' folder. What it was doing when it ended is done again.
"""

import contextlib
import fcntl
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agent import log
from agent.config import Settings
from agent.requests import Request, RequestSettings
from agent.requests_store import LOCK, MAPS, RequestStore

if TYPE_CHECKING:
    from agent.requests_maps import Maps
    from agent.requests_results import Results
    from agent.spool import Spool

NICE = 19
LOOK_S = 0.05
IDLE_S = 600.0
"""After which the agent's worker ends, and gives its memory back."""
AGAIN_S = 2.0
"""After a worker has ended, the next one does not begin before."""
END_S = 5.0


def work(settings: Settings, idle_s: float = IDLE_S) -> bool:
    """Do what waits, and what comes, until nothing has come for so long.

    Returns
    -------
    bool
        False where another worker is at it.

    Raises
    ------
    OSError, sqlite3.Error, ValueError
        A folder of the settings cannot be had.
    """
    folder = (settings.requests or RequestSettings()).folder
    store = RequestStore(folder)
    with contextlib.closing(store), _alone(folder) as alone:
        if not alone:
            return False
        from agent import engines
        from agent.requests_maps import Maps
        from agent.requests_results import Results
        from agent.spool import Spool
        from gadgets.fft import set_threads

        engines.use(settings)
        set_threads(settings.threads)
        spool, maps = Spool(settings.spool), Maps(folder / MAPS)
        with Results(settings) as results:
            since = time.monotonic()
            while True:
                request = store.take()
                if request is not None:
                    _do(request, store, spool, settings, maps, results)
                    since = time.monotonic()
                elif time.monotonic() - since >= idle_s:
                    return True
                else:
                    time.sleep(LOOK_S)


def _do(
    request: Request,
    store: RequestStore,
    spool: "Spool",
    settings: Settings,
    maps: "Maps",
    results: "Results",
) -> None:
    from agent.requests_images import Recorded, Refused, images, marked
    from gadgets.synthesis.marks import Unavailable

    began = time.monotonic()
    logger = log.get(request=request.id, measurement=request.measurement)
    try:
        recorded = Recorded.of(spool, request.measurement, settings.limits)
        made = [marked(m, request) for m in images(request, recorded, spool, settings, maps)]
        if not made:
            raise Refused("nothing can be made of this measurement that way")
        file = store.result(request.id)
        series, wrong = results.deliver(request, recorded, made, file)
    except (Refused, Unavailable) as reason:
        logger.warning("request refused", reason=str(reason))
        store.end(request.id, "refused", str(reason))
    except Exception as error:
        logger.error("request failed", exc_info=error)
        store.end(request.id, "failed", f"{type(error).__name__}: {error}")
    else:
        seconds = round(time.monotonic() - began, 3)
        logger.info("request done", images=len(made), seconds=seconds)
        store.end(request.id, "done", wrong, len(made), series, seconds)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(file)


def lowest_priority() -> None:
    """Run only when nobody else wants the processor."""
    os.nice(NICE)
    with contextlib.suppress(AttributeError, OSError):  # Linux only; a container may forbid it.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _serve(settings: str) -> None:
    """Be the agent's worker; settings as JSON."""
    lowest_priority()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the agent decides
    log.setup()
    try:
        work(Settings.model_validate_json(settings))
    except (OSError, sqlite3.Error, ValueError) as error:
        log.get().error("requests cannot be worked on", reason=str(error))


@contextlib.contextmanager
def keeper(settings: Settings) -> Iterator[None]:
    """Have a worker whenever something waits, until the end; it is ended in whatever it does.

    Raises
    ------
    OSError, sqlite3.Error
        The requests' folder cannot be had.
    """
    assert settings.requests is not None
    store, closing = RequestStore(settings.requests.folder), threading.Event()
    thread = threading.Thread(
        target=_keep, args=(store, settings, closing), name="requests", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join(2 * END_S)
        if not thread.is_alive():
            store.close()


def _keep(store: RequestStore, settings: Settings, closing: threading.Event) -> None:
    context, given = multiprocessing.get_context("spawn"), settings.model_dump_json()
    worker = None
    pause_s = LOOK_S
    while not closing.wait(pause_s):
        pause_s = LOOK_S
        try:
            if (worker is None or not worker.is_alive()) and store.waiting():
                worker = context.Process(target=_serve, args=(given,), daemon=True)
                worker.start()
                pause_s = AGAIN_S
        except (OSError, sqlite3.Error) as error:
            log.get().error("no worker for requests", reason=str(error))
            pause_s = AGAIN_S
    if worker is not None and worker.is_alive():
        worker.terminate()
        worker.join(END_S)
        if worker.is_alive():
            worker.kill()
            worker.join(END_S)
