"""A file of somebody else's: rows, or the place where it is no CSV; in one pass, with bounded memory."""

from __future__ import annotations

import io

from hypothesis import example, given
from hypothesis import strategies as st

from handover.data.csv_file import MAX_RECORD_BYTES, CsvUnreadable, Form, reading
from handover.plan.data import Import
from tests.fuzz.strategies import damaged
from tests.support.fuzz import fuzz, tried, work_below

SPEC = Import.model_validate({"table": "t", "key": ["a"], "columns": {"a": {}, "b": {}, "c": {"required": False}}})
GOOD = b'a,b,c\n1,"x ""y""",2\n2,"two\nlines",\n3,z,=1+1\n'
PIECES = (
    b'"',
    b'""',
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"a,b\n",
    b"\\.",
    b"\t",
    b"\\N",
    b'",' * 50,
)
FORMS = st.builds(
    Form, st.sampled_from(["utf-8", "iso-8859-1", "iso-8859-15", "windows-1250", "windows-1252"]),
    st.sampled_from([",", ";", "tab", "|"]),
)  # fmt: skip


class Counting(io.BytesIO):
    """``most``: bytes that were asked for at once."""

    most = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self.most = max(self.most, size if size is not None and size >= 0 else 10**12)
        return super().readline(size)


@fuzz("CSV")
@given(content=damaged(GOOD, PIECES) | st.binary(max_size=300), form=FORMS)
@example(content=b'a,b\n"' + b"x\n" * 60, form=Form())
@example(content=b"a,b\n" + b",\n" * 100, form=Form())
def test_any_bytes_are_rows_or_a_place_where_they_are_none(content, form):
    stream = Counting(content)

    def read():
        with work_below(2000 + 60 * len(content)), reading(stream, SPEC, form) as rows:
            return rows, rows.stream.read()

    found, _ = tried(read, CsvUnreadable)
    assert stream.most <= MAX_RECORD_BYTES + 1
    if found is None:
        return
    rows, copied = found
    lines = copied.decode().split("\n")
    assert lines.pop() == "" and len(lines) == rows.count > 0
    assert {line.count("\t") for line in lines} == {len(rows.columns) + 1}
    assert "\\." not in lines, "the end of COPY's data"
    assert set(rows.columns) <= {"a", "b", "c"} and rows.size_bytes == len(content)
