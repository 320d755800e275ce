"""Finish measurements of the spool whose images never reached their scanner.

The same code as in a live session reads the same bytes; the images go to an ISMRMRD file instead.
A file that breaks off in the middle of a message is fine: what came whole is reconstructed, bit for
bit as it would have been, given the same `threads` (BLAS sums in another order with others).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent import log
from agent.config import Settings
from agent.measurement import Measurement, Report
from agent.spool import Spool, lock
from protocols.mrd import Limits, Message, Reader
from protocols.mrd_hdf5 import write_images
from protocols.mrd_types import ImageMessage

if TYPE_CHECKING:
    from agent.outgoing import Outgoing

ATTEMPTS = 3
INSTEAD = (None, "conventional", "simplefft")
"""Chain of each attempt: one that ends the process (a network's runtime, say) is not run again.
An explicit `boreside recover` after them runs what the scanner named."""


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


def recover(
    spool: Spool,
    name: str,
    settings: Settings,
    out: Path | None = None,
    outgoing: "Outgoing | None" = None,
) -> Report | None:
    """Reconstruct one measurement of the spool into ``<out>/<name>.h5``, and mark it.

    Parameters
    ----------
    spool : Spool
    name : str
    settings : Settings
    out : path, optional
        By default the spool's own `results`.
    outgoing : Outgoing or None
        Takes the images on to PACS.

    Returns
    -------
    Report or None
        None where a running session or another recovery holds the measurement.
    """
    with _reading(spool, name, settings) as read:
        if read is None:
            return None
        return reconstruct(read, spool, name, settings, out, outgoing)


def reconstruct(
    read: Callable[[], Reader],
    spool: Spool,
    name: str,
    settings: Settings,
    out: Path | None = None,
    outgoing: "Outgoing | None" = None,
) -> Report:
    """Reconstruct what ``read`` gives into ``<out>/<name>.h5``, and mark the measurement."""
    folder = out or spool.results
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = folder / f"{name}.h5"
    part = target.with_suffix(".h5.part")
    part.unlink(missing_ok=True)
    attempts = spool.state(name).get("attempts", 0)
    instead = INSTEAD[attempts] if attempts < len(INSTEAD) else None
    spool.mark(name, outcome="recovering", attempts=attempts + 1)

    def keep(message: Message) -> None:
        if isinstance(message, ImageMessage):
            write_images(part, [message])

    logger = log.get(measurement=name)
    report = _run(read, keep, settings, name, outgoing, instead)
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


def dicom_again(spool: Spool, name: str, settings: Settings, outgoing: "Outgoing") -> bool:
    """Make the DICOM objects of a measurement anew, whose images have left otherwise.

    Returns
    -------
    bool
        False where a running session or another recovery holds the measurement.
    """
    attempts = spool.owed(name) or 0
    if not spool.path(name).exists():
        spool.settle(name)
        return True
    with _reading(spool, name, settings) as read:
        if read is None:
            return False
        spool.owe(name, attempts + 1)
        _run(read, lambda message: None, settings, name, outgoing)
        if spool.owed(name) is not None:  # This attempt has not ended the process.
            spool.owe(name, attempts)
    return True


@contextmanager
def _reading(spool: Spool, name: str, settings: Settings) -> Iterator[Callable[[], Reader] | None]:
    """Hold a measurement, and give what reads it from its beginning; None where another has it."""
    path = spool.path(name)
    release = lock(path)
    if release is None:
        yield None
        return
    limits = Limits(settings.limits.text_bytes, settings.limits.message_bytes)
    try:
        with ExitStack() as files:
            yield lambda: Reader(files.enter_context(open(path, "rb", buffering=0)), limits)
    finally:
        release()


def _run(
    read: Callable[[], Reader],
    send: Callable[[Message], None],
    settings: Settings,
    name: str,
    outgoing: "Outgoing | None",
    instead: str | None = None,
) -> Report:
    """Run a measurement that nobody waits for; its DICOM objects are in the outbox, or owed."""
    measurement = Measurement(
        read,
        send,
        settings.chain,
        settings.pixel_type,
        log.get(measurement=name),
        outgoing=outgoing,
        instead=instead,
    )
    report = measurement.run()
    if outgoing is not None:
        outgoing.end(report, complete=True)
        outgoing.wait()
    return report
