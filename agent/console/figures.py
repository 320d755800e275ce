"""What the integrator looks at: connections, throughput, latency, spool, log, out of the events."""

import statistics
import time
from typing import Any

from agent.event_records import Begun, Connection, Ended, Picture, PicturesDropped, Problem, Spooled
from agent.events import EventReader

LATEST = 2000
LINES = 200


def figures(reader: EventReader) -> dict[str, Any]:
    """Return the page's numbers as of now."""
    peers: dict[str, dict[str, Any]] = {}
    for row in reader.latest("connection", LATEST):
        if isinstance(event := row.event, Connection):
            peers[event.id] = {**event.model_dump(exclude={"kind"}), "since_s": row.at_s}
    spool = [row.event for row in reader.latest("spool", 1)]
    return {
        "now_s": time.time(),
        "agent_s": reader.alive_s,
        "connections": sorted(peers.values(), key=lambda peer: -peer["since_s"])[:50],
        "latency": _latency(reader),
        "measurements": _measurements(reader),
        "spool": spool[0].model_dump() if spool and isinstance(spool[0], Spooled) else None,
        "dropped": sum(
            event.pictures
            for row in reader.latest("dropped", LATEST)
            if isinstance(event := row.event, PicturesDropped)
        ),
        "log": [
            {"at_s": row.at_s, "level": event.level, "text": event.text}
            for row in reader.latest("problem", LINES)
            if isinstance(event := row.event, Problem)
        ],
    }


def _latency(reader: EventReader) -> dict[str, Any]:
    """Percentiles in ms of the latest images, and those images one by one."""
    found = [
        (row.at_s, event.latency_ms)
        for row in reader.latest("picture", LATEST)
        if isinstance(event := row.event, Picture) and event.latency_ms is not None
    ]
    values = sorted(value for _, value in found)
    if not values:
        return {"images": 0, "points": []}
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else None
    return {
        "images": len(values),
        **{f"p{p}": cuts[p - 1] if cuts else values[0] for p in (50, 95, 99)},
        "max": values[-1],
        "points": found[-300:],
    }


def _measurements(reader: EventReader) -> list[dict[str, Any]]:
    begun = {
        event.measurement: (row.at_s, event)
        for row in reader.latest("begun", 50)
        if isinstance(event := row.event, Begun)
    }
    ended = {
        event.measurement: event
        for row in reader.latest("ended", 50)
        if isinstance(event := row.event, Ended)
    }
    lines = []
    for name, (at_s, event) in begun.items():
        end = ended.get(name)
        lines.append(
            {
                "measurement": name,
                "step": event.step,
                "chain": event.chain,
                "at_s": at_s,
                "outcome": end.outcome if end else "running",
                "images": end.images if end else None,
                "bytes": end.bytes if end else None,
                "seconds": end.seconds if end else None,
                "errors": list(end.errors) if end else [],
            }
        )
    return lines[::-1][:20]
