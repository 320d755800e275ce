"""UIDs that are the same whenever the same thing is made again.

A retry, a restart or a recovery of a measurement makes the objects anew; with the same UIDs a PACS
sees that it has them. UIDs are those of PS3.5 B.2 (``2.25.`` and a UUID as a decimal number), the
UUID made by name (RFC 9562, version 5).
"""

import json
import re
import uuid

from pydicom.uid import RE_VALID_UID


def uid(kind: str, *parts: str | int) -> str:
    """Return the UID of a thing.

    Parameters
    ----------
    kind : str
        "series", "instance", ...: things of different kinds never share a UID.
    *parts : str or int
        What tells it from all others of its kind.
    """
    name = json.dumps(["boreside", kind, *parts])
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def usable_uid(text: str | None) -> str | None:
    """Return a UID that came from outside, or None where it is none."""
    value = (text or "").strip()
    return value if len(value) <= 64 and re.fullmatch(RE_VALID_UID, value) else None
