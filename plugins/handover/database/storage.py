"""Backups in S3: written and read as streams, so that none ever lies whole in memory or on a disk of ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from handover.models.deployment import BackupRecord
from handover.models.readiness import RESTORE_SECONDS_TAG

PART_BYTES = 16 * 1024 * 1024
MAX_PARTS = 9_000
"""S3 takes 10,000 parts."""
THREADS = 3
READ_BYTES = 1024 * 1024
SHA256 = "sha256"
"""Tag of an object. Metadata would have to be known before the upload begins; the hash is known when it ends."""


class BackupDamaged(Exception):
    """What lies in S3 is not what was written."""


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Hashing:
    """Passes a stream on and knows the size and SHA-256 of what has gone by."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def s3(connection_id: str) -> Any:
    """The S3 client behind an Airflow connection of type aws."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=connection_id).get_conn()


def place(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    found = re.fullmatch(r"s3://([^/]+)/(.+)", uri)
    if not found:
        raise ValueError(f"not an address in S3: {uri}")
    return found.group(1), found.group(2)


def write(client: Any, bucket: str, key: str, stream: BinaryIO | Hashing, expected_bytes: int = 0) -> None:
    """Uploads in parts. When ``stream.read`` raises, the upload is aborted and no object appears.

    ``expected_bytes``: a guess from above, so that very large streams get larger parts.
    """
    from boto3.s3.transfer import TransferConfig

    part = max(PART_BYTES, -(-expected_bytes // MAX_PARTS))
    config = TransferConfig(multipart_threshold=part, multipart_chunksize=part, max_concurrency=THREADS)
    config.max_in_memory_upload_chunks = THREADS + 1
    client.upload_fileobj(stream, bucket, key, Config=config)


def seal(client: Any, record: BackupRecord) -> None:
    """Checks that S3 has as many bytes as were sent, and tags the object with its hash. Raises `BackupDamaged`."""
    bucket, key = place(record.uri)
    there = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
    if there != record.size_bytes:
        raise BackupDamaged(f"{record.uri}: {record.size_bytes} bytes were sent, S3 has {there}")
    tags = [{"Key": SHA256, "Value": record.sha256}]
    client.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags})


def tag_restored(client: Any, record: BackupRecord, seconds: float) -> None:
    """Says on the object that it was read back whole, and how long that took."""
    bucket, key = place(record.uri)
    tags = [{"Key": SHA256, "Value": record.sha256}, {"Key": RESTORE_SECONDS_TAG, "Value": f"{seconds:.3f}"}]
    client.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags})


def newest_verified(client: Any, bucket: str, prefix: str) -> BackupRecord | None:
    """The newest backup that was read back whole by a test restore, None when there is none. Of its rows and objects
    the record says nothing.
    """
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    found = [one for page in pages for one in page.get("Contents", []) if one["Key"].endswith(".dump")]
    for one in sorted(found, key=lambda one: one["LastModified"], reverse=True):
        tags = client.get_object_tagging(Bucket=bucket, Key=one["Key"])["TagSet"]
        known = {tag["Key"]: tag["Value"] for tag in tags}
        if known.keys() >= {SHA256, RESTORE_SECONDS_TAG}:
            return BackupRecord(
                uri=f"s3://{bucket}/{one['Key']}", size_bytes=one["Size"], sha256=known[SHA256],
                taken_at=one["LastModified"].timestamp(),
            )  # fmt: skip
    return None


def intact(client: Any, record: BackupRecord) -> bool:
    """Whether the object is still there with its size and tag. A quick look, not a proof: `prove` is that."""
    from botocore.exceptions import ClientError

    bucket, key = place(record.uri)
    try:
        size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
        tags = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
            return False
        raise
    return bool(size == record.size_bytes and {"Key": SHA256, "Value": record.sha256} in tags)


@dataclass(frozen=True)
class Proven:
    """A backup that is known to be what was written, to be read as often as is needed.

    Whoever may write to S3 must not run SQL where a backup is restored, and pg_restore accepts truncated and flipped
    archives; so the object is read once for its hash and those of its blocks, and from then on each block is compared
    before it is given away. Nothing lies on a disk; the hashes take 32 bytes of memory for each MiB.
    """

    client: Any
    record: BackupRecord
    blocks: tuple[bytes, ...] = field(repr=False)

    def read(self) -> Generator[bytes]:
        """The bytes. Raises `BackupDamaged` where the object is no longer what was proven, also if it is shorter."""
        left = list(reversed(self.blocks))
        for data in _blocks(self.client, self.record):
            if not left or hashlib.sha256(data).digest() != left.pop():
                raise BackupDamaged(f"{self.record.uri}: it was replaced while it was read")
            yield data
        if left:
            raise BackupDamaged(f"{self.record.uri}: it was cut while it was read")


def prove(client: Any, record: BackupRecord) -> Proven:
    """Reads an object whole. Raises `BackupDamaged` unless all of it is what was written."""
    whole, size, blocks = hashlib.sha256(), 0, list[bytes]()
    for data in _blocks(client, record):
        whole.update(data)
        size += len(data)
        blocks.append(hashlib.sha256(data).digest())
    if (size, whole.hexdigest()) != (record.size_bytes, record.sha256):
        raise BackupDamaged(
            f"{record.uri}: {record.size_bytes} bytes with SHA-256 {record.sha256} were written, "
            f"{size} bytes with {whole.hexdigest()} were read"
        )
    return Proven(client, record, tuple(blocks))


def _blocks(client: Any, record: BackupRecord) -> Iterator[bytes]:
    """The object as it is now in pieces of `READ_BYTES`; only the last one is shorter."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = place(record.uri)
    size = 0
    try:
        with closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as body:
            while data := b"".join(_whole(body)):
                size += len(data)
                yield data
    except BotoCoreError as error:
        raise BackupDamaged(f"{record.uri}: reading stopped after {size} bytes: {error}") from error
    except ClientError as error:
        raise BackupDamaged(f"{record.uri} cannot be read: {error.response['Error']['Code']}") from error


def _whole(body: Readable) -> Iterator[bytes]:
    """One piece, however little each read gives of it."""
    left = READ_BYTES
    while left and (data := body.read(left)):
        left -= len(data)
        yield data


def delete(client: Any, bucket: str, key: str) -> None:
    client.delete_object(Bucket=bucket, Key=key)


def abort_leftovers(client: Any, bucket: str, prefix: str, ending: str) -> int:
    """Ends uploads that a killed try left open under such keys, since S3 bills their parts, and deletes objects that it
    did not live to seal: no record has their hash, so nobody can ever use them. Gives the number of both.
    """
    found = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])
    mine = [upload for upload in found if upload["Key"].endswith(ending)]
    for upload in mine:
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    objects = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [found["Key"] for page in objects for found in page.get("Contents", []) if found["Key"].endswith(ending)]
    unsealed = [key for key in keys if not _sealed(client, bucket, key)]
    for key in unsealed:
        delete(client, bucket, key)
    return len(mine) + len(unsealed)


def _sealed(client: Any, bucket: str, key: str) -> bool:
    tags = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    return any(tag["Key"] == SHA256 for tag in tags)
