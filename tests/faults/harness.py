"""What the tests of faults have in common: talking to an agent's process, and looking after it."""

import socket
from dataclasses import dataclass

import numpy as np

from agent.config import load
from agent.spool import Spool
from bench.agents import AgentProcess
from bench.exams import Outcome, take
from protocols.mrd import Message, Reader
from protocols.mrd_hdf5 import read_measurement
from protocols.mrd_types import ImageMessage
from protocols.mrd_write import encode

SLICES = 3


@dataclass
class Faults:
    """Writes down what became of a fault."""

    rows: dict[str, tuple[str, ...]]
    test: str

    def saw(
        self,
        fault: str,
        outcome: Outcome,
        agent: AgentProcess,
        expected: int,
        kept: int = 0,
        told: str = "",
    ) -> None:
        """Note a fault: how many of the expected images got out, words, and raw data.

        ``told`` is what the test has seen to be said otherwise than by a text.
        """
        there, here = len(outcome.images), f" ({kept} kept for later)" if kept else ""
        texts = [text for text in outcome.texts if text[:3] in ("ERR", "WRN")]
        said = f"`{texts[0][:110]}`".replace("|", "/") if texts else told
        if not said:
            said = "nothing" if outcome.closed else "the connection ends"
        names = spool(agent).names()
        raw = "in the spool" if names else "none"
        if any("not on the disk" in text for text in outcome.texts):
            raw = "in the spool as far as the disk took it"
        where = self.test.partition("[")[0]
        self.rows[fault] = (f"{there + kept} of {expected}{here}", said, raw, f"`{where}`")


def spool(agent: AgentProcess) -> Spool:
    """Return the agent's spool."""
    return Spool(load(spool={"folder": agent.spool}).spool)


def kept_images(agent: AgentProcess, name: str) -> list[ImageMessage]:
    """Return the images that a recovery kept."""
    path = spool(agent).results / f"{name}.h5"
    if not path.exists():
        return []
    return [item for item in read_measurement(path) if isinstance(item, ImageMessage)]


def raw(*messages: Message) -> bytes:
    """Return the bytes of messages."""
    return b"".join(bytes(buffer) for message in messages for buffer in encode(message))


def send(peer: socket.socket, *parts: Message | bytes) -> Outcome:
    """Send messages and read what comes back until the agent ends the session."""
    for part in parts:
        peer.sendall(part if isinstance(part, bytes) else raw(part))
    outcome = Outcome()
    for message in Reader(peer.makefile("rb", buffering=0)):
        take(outcome, message)
    return outcome


def same_picture(image: ImageMessage, truth: np.ndarray) -> bool:
    """Whether an image shows the same, whatever its scale and its noise."""
    return bool(np.corrcoef(image.data.ravel().astype(float), truth.ravel())[0, 1] > 0.97)
