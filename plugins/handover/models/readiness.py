"""Whether a release is ready: what was judged, and what came of it. No I/O here."""

from __future__ import annotations

from handover.models.evidence import Frozen, Verdict

RESTORE_SECONDS_TAG = "restore-seconds"
"""Tag of a backup in S3 that was restored for a test: how long that took, in seconds."""
ENCRYPTED = b"age-encryption.org/v1\n"
"""How a backup begins that was encrypted before it left; pg_dump's archives begin with PGDMP."""


class Subject(Frozen):
    """The release that readiness is about. An empty field is one that nobody could tell.

    ``digest``: of its image, ``sha256:...``; ``previous``: the version that serves now.
    """

    version: str
    image: str
    digest: str = ""
    previous: str = ""


class LineVerdict(Frozen):
    """A line of the checklist that is not a pass, and the role that must act."""

    id: str
    line: str
    owner: str
    verdict: Verdict
    reason: str


class Readiness(Frozen):
    """The verdict on one release. Times are seconds since the epoch; ``against``: every line that did not pass."""

    version: str
    digest: str
    verdict: Verdict
    at: float
    expires: float
    run: str
    lines: int
    against: tuple[LineVerdict, ...] = ()
