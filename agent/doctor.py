"""What is well, doubtful or wrong with this installation, and how to mend it.

    for check in examine(settings): print(check.name, check.verdict, check.found, check.mend)

Every check does what the agent would do: it writes to the disk, asks the PACS, runs the golden
vectors. None changes anything, so an agent may be running. No check raises: one that cannot be made
is wrong, and says why.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from agent.config import Settings


class Verdict(StrEnum):
    """Of one check."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes
    ----------
    name : str
        What was looked at.
    verdict : Verdict
    found : str
    mend : str
        What to do; empty where all is well.
    """

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name, Verdict.OK, found)


def warning(name: str, found: str, mend: str) -> Check:
    """The agent runs, but not as well or as safely as it might."""
    return Check(name, Verdict.WARNING, found, mend)


def wrong(name: str, found: str, mend: str) -> Check:
    """Something that the settings ask for does not work."""
    return Check(name, Verdict.WRONG, found, mend)


def examine(settings: Settings) -> Iterator[Check]:
    """Make every check that the settings call for, one after the other."""
    from agent import doctor_machine, doctor_peers, doctor_stores

    checks: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("python", doctor_machine.python),
        ("gpu", partial(doctor_machine.gpu, settings.engines.runtime)),
        ("tensorrt", partial(doctor_machine.tensorrt, settings.engines)),
        ("clock", doctor_machine.clock),
        ("disk", partial(doctor_machine.disk, settings.spool)),
        ("port", partial(doctor_peers.ports, settings)),
        ("pacs", partial(doctor_peers.pacs, settings)),
        ("worklist", partial(doctor_peers.worklist, settings.dicom)),
        ("keys", partial(doctor_stores.keys, settings.control)),
        ("tls", partial(doctor_stores.tls, settings.listen)),
        ("engine", partial(doctor_stores.engines, settings)),
        ("spool", partial(doctor_stores.spool, settings.spool)),
        ("outbox", partial(doctor_stores.outbox, settings.outbox)),
        ("audit", partial(doctor_stores.audit, settings.audit.folder)),
    ]
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:
            said = f"cannot be checked: {type(error).__name__}: {error}"
            yield wrong(name, said, "mend that, and run this again")
