"""What we write beside our objects in a cluster, and how we call ourselves to others. No I/O here."""

from __future__ import annotations

from typing import Any

AGENT = "handover"
"""Who we are: to the API server (managedFields, audit log), to PostgreSQL, and as the user agent of requests."""
PREFIX = "handover/"
FORMER_PREFIX = "pms.deploy/"
"""What stands in a cluster under this prefix was written before the package had its name; it is still read."""
FORMER_AGENT = "pms-deployer"


def notes(obj: dict[str, Any]) -> dict[str, str]:
    """Our annotations of an object, without their prefix. Of both prefixes the newer set counts alone: a half of each
    would be nobody's.
    """
    found = obj["metadata"].get("annotations") or {}
    for prefix in (PREFIX, FORMER_PREFIX):
        if mine := {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}:
            return mine
    return {}


def as_annotations(**notes: str | None) -> dict[str, str | None]:
    """With the prefix, ready for an object or a patch; ``_`` in a name stands for ``-``, None removes one."""
    return {PREFIX + key.replace("_", "-"): value for key, value in notes.items()}
