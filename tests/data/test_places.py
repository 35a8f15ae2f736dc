"""A file that is changed while it is read, or before its rows are in, is never taken as whole."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handover.data.csv_file import Form, Lines, reading
from handover.data.places import BadSource, place
from handover.plan.data import Import

SPEC = Import.model_validate({"table": "t", "key": ["id"], "columns": {"id": {}, "n": {}}})
TEXT = "id,n\n" + "".join(f"{n},{1000 + n}\n" for n in range(1000))
SAID = "rows.csv was changed while it was read: is it still being written"


def grown(path: Path) -> None:
    with path.open("a") as file:
        file.write("1000,2000\n")


def rewritten(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def replaced(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_text(TEXT)
    other.replace(path)


def rest(stream: Lines) -> list[bytes]:
    return list(iter(stream.readline, b""))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(TEXT[:-2])  # as a file is that is still being written
    return path


CHANGES = [grown, rewritten, replaced, Path.unlink]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_is_refused(file: Path, change: Callable[[Path], None]) -> None:
    with place(str(file), (str(file.parent),), lambda: None).open() as stream:
        assert stream.readline(100) == b"id,n\n"
        change(file)
        with pytest.raises(BadSource, match=SAID):
            rest(stream)


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_before_its_report_is_written_gets_none(file: Path, change: Callable[[Path], None]) -> None:
    local = place(str(file), (str(file.parent),), lambda: None)
    with local.open() as stream, reading(stream, SPEC, Form()) as rows:
        assert rows.count == 1000
        change(file)
        with pytest.raises(BadSource, match=SAID):
            local.write_report(io.BytesIO(b"x"))
    assert not Path(local.report).exists()


@pytest.mark.parametrize("change", ["put", "delete"])
def test_an_object_that_changes_while_it_is_read_is_refused(s3: Any, change: str) -> None:
    where = {"Bucket": "backups", "Key": f"changing/{change}/rows.csv"}
    s3.put_object(**where, Body=TEXT.encode())
    uri = f"s3://backups/{where['Key']}"
    there = place(uri, ("s3://backups/changing/",), lambda: s3)
    with there.open() as stream, reading(stream, SPEC, Form()) as rows:
        assert rows.count == 1000
        there.write_report(io.BytesIO(b"x"))
    with there.open() as stream:
        assert stream.readline(100) == b"id,n\n"
        if change == "put":
            s3.put_object(**where, Body=(TEXT + "1000,2000\n").encode())
        else:
            s3.delete_object(**where)
        with pytest.raises(BadSource, match=SAID):
            rest(stream)
        with pytest.raises(BadSource, match=SAID):
            there.write_report(io.BytesIO(b"x"))
