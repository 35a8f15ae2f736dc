"""The newest backup in S3: how old, how large, encrypted, in another region, and how long its restore takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from handover.models.evidence import Evidence, Measurement, combined, failed, passed, unknown
from handover.models.readiness import ENCRYPTED, RESTORE_SECONDS_TAG
from handover.plan.parts import ConnectionId, Seconds
from handover.readiness.aws import client
from handover.readiness.check import CheckKind, Scope

BY_S3 = ("AES256", "aws:kms", "aws:kms:dsse")
FIRST_REGION = "us-east-1"
"""S3 names it by naming none."""


@dataclass(frozen=True)
class Newest:
    """The newest backup. ``at``: seconds since the epoch."""

    bucket: str
    key: str
    at: float
    size: int


def newest(s3: Any, bucket: str, prefix: str) -> Newest | None:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    found = [one for page in pages for one in page.get("Contents", []) if one["Key"].endswith(".dump")]
    if not found:
        return None
    last = max(found, key=lambda one: one["LastModified"])
    return Newest(bucket, last["Key"], last["LastModified"].timestamp(), last["Size"])


class BackupCheck(CheckKind):
    """What these checks share: no backup at all is a failure."""

    def look(self, scope: Scope) -> Evidence:
        plan = scope.plan.backups
        s3 = client(plan.connection, "s3")
        found = newest(s3, plan.bucket, plan.prefix)
        if found is None:
            return failed(self.kind, f"there is no backup in s3://{plan.bucket}/{plan.prefix}")
        return self.judge(s3, found, scope)

    def judge(self, s3: Any, found: Newest, scope: Scope) -> Evidence:
        raise NotImplementedError


class BackupPresent(BackupCheck):
    """The newest backup is large enough and young enough."""

    kind: Literal["backup_present"]
    max_age_seconds: Seconds

    def judge(self, s3: Any, found: Newest, scope: Scope) -> Evidence:
        age, least = scope.now - found.at, scope.plan.backups.min_bytes
        measured = (
            Measurement(what="backup_age_seconds", value=round(age), unit="s", source=f"s3 {found.key}"),
            Measurement(what="backup_size_bytes", value=found.size, unit="B", source=f"s3 {found.key}"),
        )
        text = f"{found.key}: {found.size} bytes, {age / 3600:.1f} h old"
        good = age <= self.max_age_seconds and found.size >= least
        limits = f"at most {self.max_age_seconds / 3600:g} h and at least {least} bytes are wanted"
        return passed(self.kind, text, *measured) if good else failed(self.kind, f"{text}; {limits}", *measured)


class BackupEncrypted(BackupCheck):
    """The newest backup was encrypted before it left where the plan has a key for that, and else where it lies."""

    kind: Literal["backup_encrypted"]

    def judge(self, s3: Any, found: Newest, scope: Scope) -> Evidence:
        if scope.plan.backups.encryption:
            return self._before(s3, found)
        how = s3.head_object(Bucket=found.bucket, Key=found.key).get("ServerSideEncryption")
        if how in BY_S3:
            return passed(self.kind, f"{found.key}: {how}")
        return failed(self.kind, f"{found.key} is not encrypted")

    def _before(self, s3: Any, found: Newest) -> Evidence:
        some = s3.get_object(Bucket=found.bucket, Key=found.key, Range=f"bytes=0-{len(ENCRYPTED) - 1}")["Body"].read()
        if some == ENCRYPTED:
            return passed(self.kind, f"{found.key}: encrypted before it left")
        return failed(self.kind, f"{found.key} was not encrypted before it left, as backup.encryption wants it")


class BackupElsewhere(BackupCheck):
    """The backup lies, or was copied whole, in another region than production."""

    kind: Literal["backup_elsewhere"]
    production_region: str

    def judge(self, s3: Any, found: Newest, scope: Scope) -> Evidence:
        here = region(s3, found.bucket)
        if here != self.production_region:
            return passed(self.kind, f"{found.bucket} is in {here}, production in {self.production_region}")
        copies = self._copies(s3, found)
        there = [(bucket, where) for bucket in copies if (where := region(s3, bucket)) != self.production_region]
        if not there:
            return failed(self.kind, f"{found.bucket} and its copies are all in {here}, as production is")
        late = [bucket for bucket, _ in there if not same(s3, found, bucket)]
        if len(late) == len(there):
            return failed(self.kind, f"{found.key} has not been copied to {', '.join(late)}")
        return passed(self.kind, f"{found.key} is also in " + ", ".join(f"{b} ({w})" for b, w in there))

    def _copies(self, s3: Any, found: Newest) -> list[str]:
        """Buckets to which S3 replicates."""
        from botocore.exceptions import ClientError

        try:
            rules = s3.get_bucket_replication(Bucket=found.bucket)["ReplicationConfiguration"]["Rules"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ReplicationConfigurationNotFoundError":
                return []
            raise
        return [rule["Destination"]["Bucket"].rpartition(":")[2] for rule in rules if rule["Status"] == "Enabled"]


def region(s3: Any, bucket: str) -> str:
    return s3.get_bucket_location(Bucket=bucket).get("LocationConstraint") or FIRST_REGION


def same(s3: Any, found: Newest, bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        return bool(s3.head_object(Bucket=bucket, Key=found.key)["ContentLength"] == found.size)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return False
        raise


class RecoveryTargets(BackupCheck):
    """RTO: the measured restore of the newest backup. RPO: the age of the newest point that can be restored to, which
    is the backup or, if the primary archives its WAL, the last archived segment.
    """

    kind: Literal["recovery_targets"]
    rto_seconds: Seconds
    rpo_seconds: Seconds
    primary: ConnectionId

    def judge(self, s3: Any, found: Newest, scope: Scope) -> Evidence:
        from handover.readiness.databases import last_archived

        tags = s3.get_object_tagging(Bucket=found.bucket, Key=found.key)["TagSet"]
        took = next((float(tag["Value"]) for tag in tags if tag["Key"] == RESTORE_SECONDS_TAG), None)
        archived = last_archived(self.primary, scope.plan)
        point = max(found.at, archived or 0.0)
        return combined(
            self.kind,
            [
                rto("RTO", found.key, took, self.rto_seconds),
                rpo("RPO", "archived WAL" if point == archived else found.key, scope.now - point, self.rpo_seconds),
            ],
        )


def rto(check: str, key: str, took: float | None, limit: float) -> Evidence:
    if took is None:
        return unknown(check, f"{key} was never restored for a test")
    measured = Measurement(what="restore_seconds", value=took, unit="s", source=f"s3 {key}")
    verdict = passed if took < limit else failed
    return verdict(check, f"the restore took {took:.0f} s, the target is {limit:g} s", measured)


def rpo(check: str, source: str, age: float, limit: float) -> Evidence:
    measured = Measurement(what="recovery_point_age_seconds", value=round(age, 1), unit="s", source=source)
    verdict = passed if age < limit else failed
    return verdict(check, f"{source} is {age:.0f} s old, the target is {limit:g} s", measured)
