"""What is no CSV is refused with line and byte, before anybody connects to a database; what is one is read exactly."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.data.csv_file import MAX_RECORD_BYTES, CsvUnreadable, Form, reading
from handover.plan.data import Import
from tests.support.fuzz import fuzz

SPEC = Import.model_validate({"table": "t", "key": ["a"], "columns": {"a": {}, "b": {}, "c": {"required": False}}})


def read(content: bytes | str, **form: str) -> list[list[str]]:
    """Line, what is malformed, values: as COPY will see them, escapes undone."""
    raw = content if isinstance(content, bytes) else content.encode()
    with reading(io.BytesIO(raw), SPEC, Form(**form)) as rows:
        assert rows.size_bytes == len(raw)
        found = rows.stream.read().decode().split("\n")
        assert found.pop() == ""
        assert rows.count == len(found)
        return [[unescaped(value) for value in line.split("\t")] for line in found]


def unescaped(value: str) -> str:
    out, rest = "", iter(value)
    for character in rest:
        out += {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}[next(rest)] if character == "\\" else character
    return out


def refusal(content: bytes | str, **form: str) -> str:
    with pytest.raises(CsvUnreadable) as error:
        read(content, **form)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"a,b,c\n", "the file has a header, but no rows"),
        (b"a,b,c\n\n\n", "the file has a header, but no rows"),
        (b"a,c\n1,2\n", "line 1 (byte 0): columns missing 'b'; known are a, b, c"),
        (b"a,b,z\n1,2,3\n", "line 1 (byte 0): columns unknown 'z'; known are a, b, c"),
        (b"a,b,b\n1,2,3\n", "line 1 (byte 0): columns twice 'b'; known are a, b, c"),
        (
            b"a;b;c\n1;2;3\n",
            "line 1 (byte 0): columns missing 'a', 'b'; unknown 'a;b;c'; known are a, b, c; "
            "is the delimiter another one?",
        ),
        (
            b"a,b\nx,caf\xe9\n",
            "line 2 (byte 9): 0xe9 is not utf-8; say in which encoding the file is, or convert it",
        ),
        ("a,b\nx,y\n".encode("utf-16-le"), "line 1 (byte 1): a NUL byte: is this UTF-16, or no text at all?"),
        (b"a,b\nx,y\nz,\0\n", "line 3 (byte 10): a NUL byte: is this UTF-16, or no text at all?"),
        (b'a,b\nx,y\n"z\n,1\n', "line 3 (byte 8): a quote that is opened in this row is never closed"),
        (
            b'a,b\nx,"y" z\n',
            "line 2 (byte 4): text after a closing quote (a quote inside a quoted value is written twice)",
        ),
        (b"a,b\rx,y\r", "line 1 (byte 0): a carriage return outside of quotes; lines end with a line feed, or both"),
        (
            b"a,b\nx,y\n" + b"z" * (MAX_RECORD_BYTES + 1),
            "line 3 (byte 8): no end of this row within 1 MiB: is a quote not closed, or is this no CSV?",
        ),
        (
            b'a,b\nx,"' + b"y\n" * 200_000,
            "line 2 (byte 4): a value is longer than 131072 characters: is a quote not closed?",
        ),
        (
            b'a,b\n"' + b'x\n","' * 400_000,
            "line 2 (byte 4): no end of this row within 1 MiB: is a quote not closed, or is this no CSV?",
        ),
    ],
)  # fmt: skip
def test_what_is_no_csv_is_refused_with_its_place(content: bytes, said: str) -> None:
    assert refusal(content) == said


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"a,b\n1,2\n"), "gzip"), (bz2.compress(b"a,b\n1,2\n"), "bzip2"),
        (lzma.compress(b"a,b\n1,2\n"), "xz"), (b"\x28\xb5\x2f\xfd\0", "zstd"),
    ],
    ids=["gzip", "bzip2", "xz", "zstd"],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "windows-1252"])
def test_a_compressed_file_is_called_so(content: bytes, what: str, encoding: str) -> None:
    assert refusal(content, encoding=encoding) == (
        f"the file is compressed, {what}: unpack it, and import the CSV file that is in it"
    )


def test_an_archive_or_a_spreadsheet_is_called_so() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", "a,b\n1,2\n")
    assert refusal(file.getvalue()).startswith("the file is compressed, ZIP (or a spreadsheet, .xlsx): unpack it")


def test_undeclared_encoding_is_refused_and_the_declared_one_is_read() -> None:
    content = "a,b\nx,caf\u00e9 \u20ac\n".encode("windows-1252")
    assert "0xe9 is not utf-8" in refusal(content)
    assert read(content, encoding="windows-1252") == [["2", "", "x", "caf\u00e9 \u20ac"]]
    assert "0x81 is not windows-1252" in refusal(b"a,b\nx,\x81\n", encoding="windows-1252")
    assert refusal("a,b\nx,caf\u00e9\n", encoding="iso-8859-1") == "the file is not iso-8859-1, but utf-8"
    assert read("a,b\nx,y\n", encoding="iso-8859-1") == [["2", "", "x", "y"]]


def test_lines_are_those_of_an_editor_also_behind_values_with_line_feeds() -> None:
    content = 'a,b\r\n"1\r\nand\nmore",x\r\n2,y\r\n\r\n3\r\n4,z,z\r\n"5",""\r\n'
    assert read("\ufeff" + content) == [
        ["2", "", "1\r\nand\nmore", "x"],
        ["5", "", "2", "y"],
        ["7", "1 values instead of 2", "", ""],
        ["8", "3 values instead of 2", "", ""],
        ["9", "", "5", ""],
    ]


def test_columns_may_come_in_any_order_and_with_another_delimiter() -> None:
    with reading(io.BytesIO(b"c|b|a\n1|2|3"), SPEC, Form(delimiter="|")) as rows:
        assert rows.columns == ("c", "b", "a")
        assert rows.stream.read() == b"2\t\t1\t2\t3\n"
    assert read("a\tb\n1\t2\n", delimiter="tab") == [["2", "", "1", "2"]]


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@fuzz("CSV")
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=5), st.sampled_from([",", ";", "|", "tab"]))
def test_every_value_comes_through_as_it_was(values: list[tuple[str, str, str]], delimiter: str) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t" if delimiter == "tab" else delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b", "c"), *values])
    assert [tuple(row[2:]) for row in read(file.getvalue(), delimiter=delimiter)] == values
