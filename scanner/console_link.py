"""How a console finds the agent, the sockets between them, and what is said again over them."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth

from protocols.control import MAX_BYTES, Acknowledged, CoverageReply, ExamUpdate

MISSED = 3
"""Heartbeats without which the agent is gone."""


@dataclass(frozen=True)
class Keys:
    """CURVE certificate files: the scanner's secret key, and the agent's public one."""

    scanner: Path
    agent: Path


@dataclass(frozen=True)
class AgentAddress:
    """Where the agent listens; ``keys`` None only where it was set up without."""

    host: str
    port: int
    telemetry_port: int
    keys: Keys | None


def connect(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, address: AgentAddress, heartbeat_s: float
) -> "zmq.Socket[bytes]":
    """Return a socket that finds the agent whenever it is there.

    Parameters
    ----------
    context : zmq.Context
    kind : int
        ``zmq.DEALER`` for questions and answers, ``zmq.SUB`` for telemetry.
    address : AgentAddress
    heartbeat_s : float
    """
    end: zmq.Socket[bytes] = context.socket(kind)
    end.maxmsgsize = MAX_BYTES
    # What cannot be sent now is not kept for later: the next heartbeat begins afresh.
    end.immediate = True
    end.ipv6 = ":" in address.host
    end.reconnect_ivl, end.reconnect_ivl_max = 50, 1000
    end.heartbeat_ivl = int(1000 * heartbeat_s)
    end.heartbeat_timeout = end.heartbeat_ttl = int(1000 * MISSED * heartbeat_s)
    if address.keys is not None:
        end.curve_publickey, end.curve_secretkey = zmq.auth.load_certificate(address.keys.scanner)
        end.curve_serverkey, _ = zmq.auth.load_certificate(address.keys.agent)
    port = address.port if kind == zmq.DEALER else address.telemetry_port
    end.connect(f"tcp://{f'[{address.host}]' if end.ipv6 else address.host}:{port}")
    return end


@dataclass
class Said:
    """An answer, until the agent has acknowledged it."""

    reply: CoverageReply
    acknowledged: threading.Event = field(default_factory=threading.Event)
    by: Acknowledged | None = None


@dataclass
class Exam:
    """The latest word on an exam, and when it was given, on the monotonic clock."""

    update: ExamUpdate
    told_s: float
    sent: bool = False
    acknowledged: bool = False

    @property
    def now(self) -> ExamUpdate:
        """What it says now."""
        left = self.update.slot_minutes - (time.monotonic() - self.told_s) / 60
        return self.update.model_copy(update={"slot_minutes": max(-1440.0, left)})
