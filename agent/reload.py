"""Which settings a running agent can take anew, and which need it to be started again."""

from collections.abc import Iterator
from typing import Any

from agent.config import Settings

CHANGEABLE = {
    "chain": None,
    "pixel_type": None,
    "limits": None,
    "engines": None,
    "listen": ("scanners", "tls"),
    "spool": ("max_bytes", "keep", "memory_bytes"),
}
"""Sections, and which of their keys; None: all of them. They count for new measurements."""


def merged(old: Settings, new: Settings) -> tuple[Settings, list[str], list[str]]:
    """Return the old settings with what can change of the new ones.

    Returns
    -------
    settings : Settings
    changed : list of str
        Keys that are different now.
    kept : list of str
        Keys that would be different, and need a new start.
    """
    taken: dict[str, Any] = {}
    for section, keys in CHANGEABLE.items():
        before, after = getattr(old, section), getattr(new, section)
        if keys is None:
            taken[section] = after
        else:
            taken[section] = before.model_copy(update={key: getattr(after, key) for key in keys})
    settings = old.model_copy(update=taken)
    return settings, list(_differ(old, settings)), list(_differ(settings, new))


def _differ(one: Settings, other: Settings) -> Iterator[str]:
    """Yield the keys that differ: of sections that both have, the keys in them."""
    for section in Settings.model_fields:
        before, after = getattr(one, section), getattr(other, section)
        if before == after:
            continue
        fields = getattr(type(before), "model_fields", {}) if type(before) is type(after) else {}
        if not fields:
            yield section
        for key in fields:
            if getattr(before, key) != getattr(after, key):
                yield f"{section}.{key}"
