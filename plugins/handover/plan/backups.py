"""Section `backup` of the plan (1.2)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ByteSize, StringConstraints

from handover.plan.parts import ConnectionId, Seconds, Section

AgeRecipient = Annotated[str, StringConstraints(pattern=r"^age1[02-9ac-hj-np-z]{58}$")]
"""A public key of age."""


class Encryption(Section):
    """Of backups, before they leave for S3 (`handover.database.encryption`)."""

    connection: ConnectionId
    """Its password is an identity of age, which test restores, rehearsals and repairs open backups with."""
    recipients: tuple[AgeRecipient, ...] = ()
    """Of others who may open them as well, such as one that is kept in a safe."""


class BackupRules(Section):
    connection: ConnectionId
    bucket: str
    prefix: Annotated[str, StringConstraints(pattern=r"^([^/].*/)?$")]
    min_bytes: ByteSize
    compression: Literal["auto", "zstd", "lz4", "gzip", "none"]
    content_digest: bool = True
    """Every table is read once more beside the dump, for a number that its restored rows have to have again."""
    encryption: Encryption | None = None
    """Without, whoever may read the bucket can read what is in it, and every backup says so."""
    restore_connection: ConnectionId
    timeout_seconds: Seconds
