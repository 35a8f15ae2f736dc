"""Section `record` of the plan."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from handover.plan.parts import Checklist, ConnectionId, Seconds, Section


class RecordRules(Section):
    """The ledger, and the report that is made from it."""

    connection: ConnectionId
    checklist: Checklist
    prefix: Annotated[str, StringConstraints(pattern=r"^([^/].*/)?$")]
    """Where reports lie in the backup's bucket, below the backup's prefix."""
    report_url: str
    """What people click on; ``{bucket}`` and ``{key}`` stand for the object. It must ask them to sign in."""
    sample_seconds: Seconds
    flush_seconds: Seconds
