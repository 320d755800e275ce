"""Finish measurements of the spool whose images never reached their scanner.

The same code as in a live session reads the same bytes; the images go to an ISMRMRD file instead.
A file that breaks off in the middle of a message is fine: what came whole is reconstructed, bit for
bit as it would have been, given the same `threads` (BLAS sums in another order with others).
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from agent import log
from agent.config import Settings
from agent.measurement import Measurement, Report
from agent.spool import Spool, lock
from protocols.mrd import Limits, Message, Reader
from protocols.mrd_hdf5 import write_images
from protocols.mrd_types import ImageMessage

ATTEMPTS = 3


def pending(spool: Spool) -> list[str]:
    """Return the measurements that nobody has finished, the oldest first.

    One whose recovery has ended the process three times is left to an explicit `boreside recover`.
    """
    return [
        name
        for name in spool.names()
        if not (state := spool.state(name))
        or (state.get("outcome") == "recovering" and state.get("attempts", 0) < ATTEMPTS)
    ]


def recover(spool: Spool, name: str, settings: Settings, out: Path | None = None) -> Report | None:
    """Reconstruct one measurement of the spool into ``<out>/<name>.h5``, and mark it.

    Parameters
    ----------
    spool : Spool
    name : str
    settings : Settings
    out : path, optional
        By default the spool's own `results`.

    Returns
    -------
    Report or None
        None where a running session or another recovery holds the measurement.
    """
    path = spool.path(name)
    release = lock(path)
    if release is None:
        return None
    try:
        with ExitStack() as files:
            limits = Limits(settings.limits.text_bytes, settings.limits.message_bytes)
            return reconstruct(
                lambda: Reader(files.enter_context(open(path, "rb", buffering=0)), limits),
                spool,
                name,
                settings,
                out,
            )
    finally:
        release()


def reconstruct(
    read: Callable[[], Reader],
    spool: Spool,
    name: str,
    settings: Settings,
    out: Path | None = None,
) -> Report:
    """Reconstruct what ``read`` gives into ``<out>/<name>.h5``, and mark the measurement."""
    folder = out or spool.results
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = folder / f"{name}.h5"
    part = target.with_suffix(".h5.part")
    part.unlink(missing_ok=True)
    spool.mark(name, outcome="recovering", attempts=spool.state(name).get("attempts", 0) + 1)

    def keep(message: Message) -> None:
        if isinstance(message, ImageMessage):
            write_images(part, [message])

    logger = log.get(measurement=name)
    report = Measurement(read, keep, settings.chain, settings.pixel_type, logger).run()
    if part.exists():
        part.replace(target)
    if report.empty:
        spool.remove(name)
        return report
    spool.mark(
        name,
        outcome="failed" if report.failed else "kept",
        config=report.config,
        readouts=report.readouts,
        images_in=report.images_in,
        images=report.images,
        errors=report.errors,
    )
    logger.info("images kept", images=len(report.images), errors=report.errors)
    return report
