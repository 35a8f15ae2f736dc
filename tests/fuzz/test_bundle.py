"""What a release's image carries as its migrations: a bundle, or why it is none; nothing is unpacked to a path."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handover.database import migrations, statements
from handover.database.migrations import MAX_BYTES, Bundle, BundleError
from handover.database.release import BEGIN, END, unpack
from tests.fuzz.strategies import TEXT, damaged
from tests.support.fuzz import fuzz, tried, work_below

NAMES = TEXT.filter(lambda name: "\0" not in name and "\ud800" not in name) | st.sampled_from([
    "20260101_a/migration.sql", "20260101_a/down.sql", "./20260101_a", "../x/migration.sql", "/etc/migration.sql",
    "a/b/migration.sql", "20260101_a/Migration.sql", "x" * 300, "migration_lock.toml", "\udcff/migration.sql",
])  # fmt: skip
KINDS = st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.DIRTYPE, *(bytes([kind]) for kind in b"\x0012346789xgLKSVZ")])
PAX = st.dictionaries(
    st.sampled_from([
        "size", "path", "linkpath", "mtime", "uid", "hdrcharset",
        *(f"GNU.sparse.{key}" for key in ("major", "minor", "map", "size", "realsize", "numblocks", "name")),
    ]),
    st.sampled_from(["0", "1", "-1", "9" * 30, "1,2,3", "x", "nan", "BINARY", "../../x"]), max_size=4,
)  # fmt: skip


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    out = io.BytesIO()
    how = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    with tarfile.open(fileobj=out, mode="w", format=how, errors="surrogateescape") as tar:
        for _ in range(draw(st.integers(0, 4))):
            info, body = tarfile.TarInfo(draw(NAMES)), draw(st.binary(max_size=40))
            info.type, info.linkname = draw(KINDS), draw(st.sampled_from(["", "/etc/passwd", "20260101_a"]))
            info.size = draw(st.sampled_from([len(body), 0, 2**33 - 1, 511]))
            info.pax_headers = draw(PAX) if how == tarfile.PAX_FORMAT else {}
            held = io.BytesIO(body.ljust(info.size, b"\0")) if info.size < 1000 else None
            with suppress(ValueError, OSError):  # a name that this format cannot have
                tar.addfile(info, held)
    return out.getvalue()


@fuzz("bundle")
@given(data=damaged(archives(), (b"0" * 12, b"\xff" * 12, bytes(512), b"7" * 11 + b"\0")) | archives())
def test_any_archive_is_a_folder_of_migrations_or_is_refused(data):
    with work_below(20_000 + 200 * len(data)):
        found, _ = tried(lambda: Bundle.from_tar(data), BundleError)
    for script in found.scripts if found else ():
        assert migrations._NAME.fullmatch(script.name)
        assert len(script.sql) + len(script.down or b"") <= len(data)
        tried(lambda script=script: (script.problem, script.statements, script.reversible, script.transactional))


GOOD = io.BytesIO()
with tarfile.open(fileobj=GOOD, mode="w") as good:
    one = tarfile.TarInfo("20260101_a/migration.sql")
    one.size = 8
    good.addfile(one, io.BytesIO(b"SELECT 1"))
PRINTED = f"{BEGIN}\n{base64.encodebytes(gzip.compress(GOOD.getvalue())).decode()}{END}\n".encode()


@fuzz("bundle")
@given(printed=damaged(PRINTED, (BEGIN.encode(), END.encode(), b"\n", b"=", b"!")) | st.binary(max_size=100))
def test_whatever_its_job_prints_is_a_bundle_or_is_refused(printed):
    text = printed.decode(errors="replace")
    found, _ = tried(lambda: unpack(text), BundleError)
    assert found is None or found.names == ("20260101_a",) or found.names == ()


@fuzz("bundle")
@given(damage=damaged(gzip.compress(GOOD.getvalue())))
def test_a_damaged_gzip_is_refused(damage):
    tried(lambda: Bundle.from_base64(base64.b64encode(damage).decode()), BundleError)


def sparse(size: int) -> bytes:
    """GNU's old form: one byte of data at the end of a file of this size."""
    info = tarfile.TarInfo("20260101_a/migration.sql")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (size - 512, 512)
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"x" * 512 + bytes(1024)


@pytest.mark.parametrize("size", [2**30, 2**33 - 1])
def test_a_sparse_file_is_refused_and_never_filled(size):
    with tarfile.open(fileobj=io.BytesIO(sparse(size))) as archive:
        (member,) = archive
    assert (member.size, member.issparse()) == (size, True), "the test makes what it says"
    with pytest.raises(BundleError, match="sparse"):
        Bundle.from_tar(sparse(size))


def test_an_archive_in_an_archive_is_no_migration():
    inner = gzip.compress(bytes(MAX_BYTES * 2))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("20260101_a/migration.sql")
        info.size = len(inner)
        archive.addfile(info, io.BytesIO(inner))
    (script,) = Bundle.from_tar(out.getvalue()).scripts
    assert script.sql == inner and "UTF-8" in (script.problem or "")


WORDS = (
    "'", "''", "E'", "\\'", '"', "$$", "$a$", "/*", "*/", "--", "\n", ";", "(", ")", "BEGIN", "ATOMIC", "END", "COMMIT",
    "CASE", "CREATE", "SELECT 1", "CONCURRENTLY", "\\.", "COPY t FROM stdin", "U&'", "\ufeff", "\0", "VACUUM",
)  # fmt: skip
SQL = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join) | TEXT.filter(lambda text: "\ud800" not in text)


@fuzz("bundle")
@given(sql=SQL)
@example(sql="(" * 200)
def test_any_sql_is_read_once_and_judged(sql):
    script = migrations.Script("a", sql.encode(), sql.encode())
    with work_below(5000 + 400 * len(sql)):
        tried(lambda: (script.problem, script.reversible, script.forward.sent, statements.split(sql)))
    if not script.forward.unreadable:
        assert len(script.forward.sent.decode()) == len(sql), "a place in it is one in the file"
