"""A backup that was encrypted before it left: who reads the bucket reads nothing, who has the key gets all of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.adapters.postgres import Database
from handover.database import encryption, storage
from handover.database.dump import DumpFailed, dump_to_s3
from handover.database.encryption import BackupKey, BadKey, decrypted, encrypted
from handover.database.packing import packed, unpacked
from handover.database.restore import differences, restore, scratch_database
from handover.database.storage import BackupDamaged
from handover.models.readiness import ENCRYPTED
from tests.support.postgres import Servers


def made(*recipients: str) -> BackupKey:
    return BackupKey("pms_backup_key", str(pyrage.x25519.Identity.generate()), recipients)


KEY, OTHER = made(), made()


class Pieces:
    """A stream that gives less than it is asked for, and then an error where there is one."""

    def __init__(self, *pieces: bytes, error: BaseException | None = None) -> None:
        self._left, self._error = list(pieces), error

    def read(self, size: int = -1, /) -> bytes:
        if self._left:
            piece = self._left.pop(0)
            if 0 <= size < len(piece):
                self._left.insert(0, piece[size:])
                return piece[:size]
            return piece
        if self._error:
            raise self._error
        return b""


def locked(*pieces: bytes, key: BackupKey = KEY) -> bytes:
    with encrypted(Pieces(*pieces), key) as stream:
        return b"".join(iter(lambda: stream.read(1000), b""))


def blocks(data: bytes, size: int = 100_000) -> Generator[bytes]:
    yield from (data[start : start + size] for start in range(0, len(data), size))


def opened(data: bytes, key: BackupKey | None = KEY, size: int = 100_000) -> bytes:
    with decrypted(blocks(data, size), key) as stream:
        return b"".join(stream)


@given(st.lists(st.binary(min_size=1, max_size=70_000), max_size=4), st.integers(100, 200_000))
def test_what_is_encrypted_comes_back_in_whatever_pieces_it_goes_by(pieces: list[bytes], size: int) -> None:
    whole = b"".join(pieces)
    data = locked(*pieces)
    assert data.startswith(ENCRYPTED)
    assert opened(data, size=size) == whole


def test_what_is_in_it_cannot_be_seen_and_is_another_text_each_time() -> None:
    first, second = locked(b"a guest's name" * 1000), locked(b"a guest's name" * 1000)
    assert b"guest" not in first
    assert first != second


@given(st.binary(max_size=2000).filter(lambda data: not data.startswith(ENCRYPTED)))
def test_what_was_never_encrypted_goes_by_as_it_is_with_a_key_or_without(data: bytes) -> None:
    assert opened(data, KEY) == opened(data, None) == data


def test_packed_and_encrypted_is_unpacked_behind_the_key() -> None:
    with encrypted(packed(Pieces(b"rows " * 50_000)), KEY) as stream:
        data = b"".join(iter(lambda: stream.read(1000), b""))
    with decrypted(blocks(data), KEY) as plain:
        assert b"".join(unpacked(plain)) == b"rows " * 50_000


def test_without_a_key_nothing_changes_on_the_way() -> None:
    stream = Pieces(b"as it is")
    with encrypted(stream, None) as same:
        assert same is stream


def test_who_lies_in_the_safe_opens_it_too_and_an_old_key_behind_the_new_one() -> None:
    safe = made()
    public = str(pyrage.x25519.Identity.from_str(safe.secret).to_public())
    data = locked(b"rows", key=BackupKey("now", KEY.secret, (public,)))
    assert opened(data, safe) == opened(data, KEY) == b"rows"
    renewed = BackupKey("renewed", f"# created: today\n{OTHER.secret},{KEY.secret}\n")
    assert opened(locked(b"old"), renewed) == b"old"
    assert opened(locked(b"new", key=renewed), OTHER) == b"new"


def test_whoever_has_no_key_or_another_one_is_told_which_and_gets_nothing() -> None:
    data = locked(b"rows")
    with pytest.raises(BadKey, match="the plan names no key"):
        opened(data, None)
    with pytest.raises(BadKey, match="pms_backup_key does not open it: No matching keys"):
        opened(data, OTHER)


NO_KEYS = {
    "nothing": "", "words": "a password", "short": "AGE-SECRET-KEY-1XX", "one of two": f"{KEY.secret},nonsense",
    "cut": KEY.secret[:-1],
}  # fmt: skip


@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_is_refused_by_the_connections_name_and_is_not_quoted(text: str) -> None:
    with pytest.raises(BadKey, match="the password of pms_backup_key is not an identity of age") as refused:
        locked(b"rows", key=BackupKey("pms_backup_key", text))
    assert "1XX" not in str(refused.value) and KEY.secret[20:40] not in str(refused.value)
    assert KEY.secret not in repr(KEY)


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d[:70_000], lambda d: d + b"x", lambda d: d[:-9] + d[-8:]]
)
def test_one_that_is_not_whole_is_no_backup(change: Any) -> None:
    with pytest.raises(BackupDamaged):
        opened(change(locked(b"r" * 150_000)))


def test_what_the_source_raises_comes_through_on_both_ways() -> None:
    killed = Pieces(b"r" * 300_000, error=DumpFailed("it was killed"))
    with encrypted(killed, KEY) as stream, pytest.raises(DumpFailed, match="it was killed"):
        list(iter(lambda: stream.read(1000), b""))

    def torn() -> Generator[bytes]:
        yield locked(b"r" * 300_000)[:200_000]
        raise BackupDamaged("it was replaced while it was read")

    with pytest.raises(BackupDamaged, match="it was replaced"), decrypted(torn(), KEY) as plain:
        list(plain)


def test_who_reads_no_further_keeps_nobody_waiting() -> None:
    closed: list[bool] = []

    def many() -> Generator[bytes]:
        try:
            yield from blocks(locked(b"r" * 3_000_000))
        finally:
            closed.append(True)

    with decrypted(many(), KEY) as plain:
        assert next(plain)
    assert closed == [True]
    with encrypted(Pieces(*[b"r" * 100_000] * 50), KEY) as stream:
        assert stream.read(10)


# --- a real server


@pytest.fixture(scope="module")
def written(servers: Servers, s3: Any) -> tuple[Database, Any]:
    from tests.database.conftest import fill

    database = servers.copy("locked", "owner", fill)
    return database, dump_to_s3(database, s3, "backups", "locked/shop.dump", encrypt_with=KEY)


def test_a_backup_is_restored_with_its_key_and_not_without(written: tuple[Database, Any], s3: Any) -> None:
    database, taken = written
    record = taken.record
    lies = s3.get_object(Bucket="backups", Key=storage.place(record.uri)[1])["Body"].read()
    assert lies.startswith(ENCRYPTED) and len(lies) == record.size_bytes
    assert b"PGDMP" not in lies and b"customers" not in lies
    with scratch_database(database, "locked_test") as target:
        for key in (None, OTHER):
            with pytest.raises(BadKey):
                restore(s3, record, target, open_with=key)
        with target.connect() as there:
            assert there.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        assert differences(record, restore(s3, record, target, open_with=KEY)) == []


def test_nothing_is_written_where_nothing_can_be_encrypted(written: tuple[Database, Any], s3: Any) -> None:
    with pytest.raises(BadKey):
        dump_to_s3(written[0], s3, "backups", "unlocked/shop.dump", encrypt_with=BackupKey("pms_backup_key", "x"))
    assert "Contents" not in s3.list_objects_v2(Bucket="backups", Prefix="unlocked/")


def test_the_evidence_says_whether_who_reads_the_bucket_can_read_it() -> None:
    assert encryption.told(None).startswith("not encrypted before it left")
    assert (
        encryption.told(made("age1a", "age1b")) == "encrypted before it left, to be opened by pms_backup_key and 2 more"
    )
