"""Compresses a backup on its way to S3 where pg_dump was built without a quick method: one zstd stream around its
uncompressed archive. What is read back says itself whether it is packed, so it needs no record for that;
``zstd -dc FILE | pg_restore`` does the same by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import IO, cast

from handover.database.storage import READ_BYTES, BackupDamaged, Readable

METHOD, LEVEL = "zstd:1", 1
"""Measured: a third of the time of gzip:1, and smaller."""
SLICE_BYTES = 16 * 1024
"""Unpacked at once, so that rows that are all alike do not fill the memory."""
MAGIC = b"\x28\xb5\x2f\xfd"
"""How every zstd stream begins; pg_dump's archives begin with PGDMP."""


def packed(stream: Readable) -> Readable:
    """The stream, compressed; what reading it raises comes through."""
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL).stream_reader(cast(IO[bytes], stream), read_size=READ_BYTES)


def unpacked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """What was packed; anything else as it is. Raises `BackupDamaged` for what is not one whole stream."""
    first = next(blocks, b"")
    whole = chain([first], blocks)
    return _unpacked(whole) if first.startswith(MAGIC) else whole


def _unpacked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    reading = zstandard.ZstdDecompressor().decompressobj()
    try:
        for block in blocks:
            for start in range(0, len(block), SLICE_BYTES):
                if data := reading.decompress(block[start : start + SLICE_BYTES]):
                    yield data
    except zstandard.ZstdError as error:
        raise BackupDamaged(f"what was packed cannot be unpacked: {error}") from error
    if not reading.eof or reading.unused_data:
        raise BackupDamaged("what was packed is not one whole zstd stream")
