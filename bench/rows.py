"""The one shape of a benchmark's result, and its Markdown page."""

import os
import platform
from typing import Any

COLUMNS = ("case", "measure", "ours", "peer_name", "peer", "ratio", "unit")


def row(
    bench: str,
    case: str,
    measure: str,
    ours: float,
    peer_name: str,
    peer: float | None,
    better: str,
    unit: str,
) -> dict[str, Any]:
    """Return one result; ``better`` is "higher" or "lower". There is no ratio to nothing."""
    ratio = None
    if peer and (ours or better == "higher"):
        ratio = ours / peer if better == "higher" else peer / ours
    return {
        "bench": bench,
        "case": case,
        "measure": measure,
        "ours": ours,
        "peer_name": peer_name,
        "peer": peer,
        "ratio": ratio,
        "better": better,
        "unit": unit,
    }


def processor() -> str:
    """Return the processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def as_markdown(name: str, rows: list[dict[str, Any]], quick: bool = False) -> str:
    """Return the rows as a page that says how they were made."""

    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else "null" if value is None else value

    command = f"python -m bench {name}{' --quick' if quick else ''}"
    lines = [
        f"# {name}",
        "",
        f"Made by `{command}` on {processor()}, Python {platform.python_version()}.",
        "Medians; Boreside and peers alternate in one run. A ratio above 1 means Boreside is "
        "better.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + " --- |" * len(COLUMNS),
    ]
    lines += ["| " + " | ".join(cell(r[c]) for c in COLUMNS) + " |" for r in rows]
    return "\n".join(lines) + "\n"
