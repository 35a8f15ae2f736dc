"""A registry that answers on a real port and has one image. Import the fixture into a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.hotel.build import VULNERABILITIES
from tests.support.cluster import digest
from tests.support.steps import connect_to
from tests.support.web import Answer, Asked, serving


class Registry:
    """Has v1.1.0 of shop/web, by tag and by digest; ``annotation`` is what a scanner finds in it."""

    annotation = ""
    has_image = True
    pushed_by: Path | None = None
    """A file: the image is there as soon as this exists."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.url = ""

    def answer(self, asked: Asked) -> Answer:
        there = self.pushed_by.exists() if self.pushed_by else self.has_image
        known = asked.path in (f"/v2/shop/web/manifests/{ref}" for ref in ("v1.1.0", digest("v1.1.0")))
        if not (there and known):
            return Answer(404)
        body = {"annotations": {VULNERABILITIES: self.annotation}}
        return Answer(200, body, {"Docker-Content-Digest": digest("v1.1.0")})


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Behind the plan's connection."""
    found = Registry()
    with serving(found.answer) as web:
        connect_to(monkeypatch, "pms_registry", host=web.host, port=web.port)
        found.asked, found.url = web.asked, web.url
        yield found
