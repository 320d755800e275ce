"""Logging: events with fields, to standard error, never with patient data.

Headers, image attributes and texts of a peer are not to be logged: they hold names and birth dates.
"""

import logging
import sys
from typing import Any

import structlog


def setup(level: int = logging.INFO) -> None:
    """Send events to standard error: readable on a terminal, one JSON object a line elsewhere.

    Tracebacks come without the values of local variables: they hold headers and attributes.
    """
    terminal = sys.stderr.isatty()
    readable = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            readable if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )


def get(**fields: Any) -> Any:
    """Return a logger whose events all carry ``fields``."""
    return structlog.get_logger().bind(**fields)
