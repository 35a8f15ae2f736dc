"""Backups in S3: written and read as streams, so that none ever lies whole in memory or on a disk of ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
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


def intact(client: Any, record: BackupRecord) -> bool:
    """Whether the object is still there with its size and tag. A quick look, not a proof: `read` is the proof."""
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


def read(client: Any, record: BackupRecord) -> Iterator[bytes]:
    """The object's bytes; raises `BackupDamaged` after the last one unless all of them are what was written.

    pg_restore accepts truncated and flipped archives, so nothing it made may be trusted before this has ended.
    """
    from botocore.exceptions import BotoCoreError

    bucket, key = place(record.uri)
    hashing = Hashing(client.get_object(Bucket=bucket, Key=key)["Body"])
    try:
        while data := hashing.read(READ_BYTES):
            yield data
    except BotoCoreError as error:
        raise BackupDamaged(f"{record.uri}: reading stopped after {hashing.size} bytes: {error}") from error
    if (hashing.size, hashing.sha256) != (record.size_bytes, record.sha256):
        raise BackupDamaged(
            f"{record.uri}: {record.size_bytes} bytes with SHA-256 {record.sha256} were written, "
            f"{hashing.size} bytes with {hashing.sha256} were read"
        )


def delete(client: Any, bucket: str, key: str) -> None:
    client.delete_object(Bucket=bucket, Key=key)


def abort_leftovers(client: Any, bucket: str, prefix: str, ending: str) -> int:
    """Ends uploads that a killed try left open under such keys, since S3 bills their parts; gives their number."""
    found = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])
    mine = [upload for upload in found if upload["Key"].endswith(ending)]
    for upload in mine:
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(mine)
