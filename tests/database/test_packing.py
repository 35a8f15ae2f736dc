"""Backups that we compress ourselves, and half of such a stream."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import pytest

from handover.database import packing
from handover.database.storage import BackupDamaged

BODIES = [b"", b"PGDMP and little more", random.Random(1).randbytes(300_000), b"all alike " * 300_000]


def packed(body: bytes) -> bytes:
    stream = packing.packed(io.BytesIO(body))
    return b"".join(iter(lambda: stream.read(7777), b""))


def blocks(data: bytes, size: int = 10_000) -> Iterator[bytes]:
    return iter([data[start : start + size] for start in range(0, len(data), size)])


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_what_was_packed_comes_back_in_pieces_of_bounded_size(body: bytes) -> None:
    found = list(packing.unpacked(blocks(packed(body))))
    assert b"".join(found) == body
    assert all(found)


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_what_was_not_packed_stays_as_it_is(body: bytes) -> None:
    assert b"".join(packing.unpacked(blocks(body))) == body


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_half_a_stream_and_more_than_one_are_damaged(body: bytes) -> None:
    whole = packed(body)
    for wrong in (whole[:-1], whole[: max(5, len(whole) // 2)], whole + b"x", whole + whole):
        with pytest.raises(BackupDamaged, match="what was packed"):
            list(packing.unpacked(blocks(wrong)))


def test_an_error_of_the_dump_is_no_end_of_it() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if data := super().read(size):
                return data
            raise RuntimeError("pg_dump ended with 1")

    stream = packing.packed(Broken(b"some rows"))
    with pytest.raises(RuntimeError, match="ended with 1"):
        stream.read()
