"""Section `record` of the plan."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from handover.plan.parts import Checklist, ConnectionId, Seconds, Section


class RecordRules(Section):
    """The ledger, and the report that is made from it."""

    connection: ConnectionId
    checklist: Checklist
    bucket: str | None = None
    """Of the reports, so that whoever reads them needs no right to read backups; without, the backups' bucket."""
    bucket_connection: ConnectionId | None = None
    """Of type aws; without, that of the backups."""
    prefix: Annotated[str, StringConstraints(pattern=r"^([^/].*/)?$")]
    """Where reports lie in their bucket; in that of the backups it is below their prefix."""
    report_url: str
    """What people click on; ``{bucket}`` and ``{key}`` stand for the object. It must ask them to sign in."""
    sample_seconds: Seconds
    flush_seconds: Seconds
