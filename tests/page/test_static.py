"""What the page ships: libraries as their packages have them, nothing that its own policy would forbid."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from handover.workflows.page.files import FOLDER

VENDOR = FOLDER / "vendor"
OWN = sorted(path for path in FOLDER.glob("*") if path.suffix in (".js", ".html", ".css"))


def test_every_library_is_the_one_that_is_written_down():
    lines = re.findall(r"^\| `(\S+)` \|.*`([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.MULTILINE)
    shipped = {path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".css")}
    assert {name for name, _ in lines} == shipped
    for name, digest in lines:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest


def test_every_library_has_its_licence_beside_it():
    for path in VENDOR.glob("*.js"):
        assert "icen" in (VENDOR / f"{path.stem}.LICENSE.txt").read_text()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_a_file_of_ours_is_short_says_what_it_is_for_and_needs_nothing_that_the_policy_forbids(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) < 300
    assert path.suffix == ".html" or text.startswith(("/**", "/*"))
    assert not re.search(
        r"\beval\(|new Function|innerHTML|dangerouslySetInnerHTML|document\.write|<script>|\son\w+=\"", text
    )
    assert not re.search(r"https?://[a-z]", text)
