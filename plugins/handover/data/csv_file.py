"""Reads a CSV file once, as a stream, into what COPY takes; what is no CSV is refused here, before any database.

Python's own csv module parses: it is strict about quotes and tells physical lines. PostgreSQL's parser is quicker, but
stops at the first broken row and does not know in which line a row began.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from handover.plan.data import Import

Encoding = Literal["utf-8", "iso-8859-1", "iso-8859-15", "windows-1250", "windows-1252"]
"""Encodings in which a byte 10 is always the end of a line."""
Delimiter = Literal[",", ";", "tab", "|"]
OnRejects = Literal["abort", "skip"]
BUFFER_BYTES = 1024 * 1024
MAX_RECORD_BYTES = 1024 * 1024
"""More between two ends of a row is no data of ours, but a quote that was never closed, or no CSV at all."""
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "ZIP (or a spreadsheet, .xlsx)",
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
"""How compressed files begin; none of it is a name of a column."""
_WHY = {
    "unexpected end of data": "a quote that is opened in this row is never closed",
    "expected after": "text after a closing quote (a quote inside a quoted value is written twice)",
    "new-line character": "a carriage return outside of quotes; lines end with a line feed, or both",
    "field larger": "a value is longer than 131072 characters: is a quote not closed?",
}


class CsvUnreadable(Exception):
    """The file is not what it was said to be. The text says where: line (from 1) and byte (from 0)."""


class Lines(Protocol):
    """A binary stream, as far as it is needed here."""

    def readline(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Form:
    """How the file is written."""

    encoding: Encoding = "utf-8"
    delimiter: Delimiter = ","

    @property
    def separator(self) -> str:
        return "\t" if self.delimiter == "tab" else self.delimiter


@dataclass(frozen=True)
class Rows:
    """The rows of a readable file as text for ``COPY ... WITH (NULL '')``: line, what is wrong with the row's form (or
    nothing), and the values of ``columns``. ``stream`` is an unnamed file on disk, gone when it is closed."""

    stream: IO[bytes]
    columns: tuple[str, ...]
    count: int
    size_bytes: int


class _Counting:
    """Gives the stream's lines as text, and knows where they are. Offsets are those of the file's bytes."""

    def __init__(self, stream: Lines, encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self.line = self.offset = 0
        self._record = (1, 0)
        self._foreign: set[bool] = set()

    def begin_record(self) -> int:
        """What comes next is a new row; gives its line."""
        self._record = (self.line + 1, self.offset)
        return self._record[0]

    def refuse(self, why: str) -> CsvUnreadable:
        """For something about the row that began last."""
        return CsvUnreadable(f"line {self._record[0]} (byte {self._record[1]}): {why}")

    @property
    def is_utf8_after_all(self) -> bool:
        """Whether it was said to be in another encoding, has letters beyond ASCII, and each of them is UTF-8."""
        return self._foreign == {True}

    def __iter__(self) -> Iterator[str]:
        while raw := self._stream.readline(MAX_RECORD_BYTES + 1):
            if not self.offset:
                _refuse_packed(raw)
            if self.offset + len(raw) - self._record[1] > MAX_RECORD_BYTES:
                raise self.refuse("no end of this row within 1 MiB: is a quote not closed, or is this no CSV?")
            if 0 in raw:
                at = self.offset + raw.index(0)
                raise CsvUnreadable(f"line {self.line + 1} (byte {at}): a NUL byte: is this UTF-16, or no text at all?")
            try:
                text = raw.decode(self._encoding)
            except UnicodeDecodeError as error:
                at = self.offset + error.start
                raise CsvUnreadable(
                    f"line {self.line + 1} (byte {at}): 0x{raw[error.start]:02x} is not {self._encoding}; "
                    "say in which encoding the file is, or convert it"
                ) from None
            if self._encoding != "utf-8" and not raw.isascii():
                self._foreign.add(_is_utf8(raw))
            if self.line == 0:
                text = text.removeprefix("\ufeff")
            self.line += 1
            self.offset += len(raw)
            yield text


@contextmanager
def reading(stream: Lines, spec: Import, form: Form) -> Iterator[Rows]:
    """Reads the whole file. Memory stays constant; the disk (where Python puts temporary files) holds it once.

    Rows with too few or too many values are kept, to be rejected with the others. Raises `CsvUnreadable`.
    """
    with tempfile.TemporaryFile(buffering=BUFFER_BYTES) as out:
        lines = _Counting(stream, form.encoding)
        reader = csv.reader(lines, delimiter=form.separator, strict=True)
        try:
            columns = _header(lines, next(reader, []), spec)
            count = _copy_rows(lines, reader, len(columns), out)
        except csv.Error as error:
            raise lines.refuse(next((why for said, why in _WHY.items() if said in str(error)), str(error))) from None
        if lines.is_utf8_after_all:
            raise CsvUnreadable(f"the file is not {form.encoding}, but utf-8")
        if not count:
            raise CsvUnreadable("the file has a header, but no rows")
        out.seek(0)
        yield Rows(out, columns, count, lines.offset)


def _refuse_packed(first: bytes) -> None:
    for magic, what in _PACKED.items():
        if first.startswith(magic):
            raise CsvUnreadable(f"the file is compressed, {what}: unpack it, and import the CSV file that is in it")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _copy_rows(lines: _Counting, reader: Iterator[list[str]], width: int, out: IO[bytes]) -> int:
    count, tabs, nothing = 0, width - 1, "\t" * width
    line = lines.begin_record()
    for values in reader:
        if len(values) == width:
            text = "\t".join(values)
            if text.count("\t") != tabs or "\\" in text or "\n" in text or "\r" in text:
                text = "\t".join([value.translate(_ESCAPES) for value in values])
            out.write(f"{line}\t\t{text}\n".encode())
            count += 1
        elif values:  # an empty line is no row
            out.write(f"{line}\t{len(values)} values instead of {width}{nothing}\n".encode())
            count += 1
        line = lines.begin_record()
    return count


def _header(lines: _Counting, found: list[str], spec: Import) -> tuple[str, ...]:
    """The names in the first line, if they are those of the plan in any order."""
    if not lines.line:
        raise CsvUnreadable("the file is empty")
    names = [name.strip() for name in found]
    missing = [name for name, column in spec.columns.items() if column.required and name not in names]
    unknown = [name for name in names if name not in spec.columns]
    doubled = sorted({name for name in names if names.count(name) > 1})
    faults = [
        f"{what} {', '.join(repr(name[:40]) for name in wrong[:10])}"
        for what, wrong in (("missing", missing), ("unknown", unknown), ("twice", doubled)) if wrong
    ]  # fmt: skip
    if faults:
        hint = "; is the delimiter another one?" if len(names) == 1 and len(spec.columns) > 1 else ""
        raise CsvUnreadable(f"line 1 (byte 0): columns {'; '.join(faults)}; known are {', '.join(spec.columns)}{hint}")
    return tuple(names)
