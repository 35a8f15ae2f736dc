"""The catalogue of images: what a reference means here, which is a program, its folder and its settings."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Image:
    repository: str
    tag: str
    digest: str
    argv: list[str]
    workdir: str = ""
    env: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.repository}@{self.digest}"


class Catalogue:
    """Reads the file again when it has changed; while it cannot be read, what was read last holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._images: list[Image] = []

    def find(self, reference: str) -> Image | None:
        """`repository:tag`, `repository@digest` or `repository:tag@digest`."""
        self._refresh()
        name, _, digest = reference.partition("@")
        repository, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            repository, tag = name, ""
        for image in self._images:
            if image.repository == repository and (image.digest == digest if digest else image.tag == tag):
                return image
        return None

    def _refresh(self) -> None:
        try:
            about = self._path.stat()
            if (about.st_mtime_ns, about.st_size) == self._seen:
                return
            entries = json.loads(self._path.read_text())["images"]
            self._images = [
                Image(**{key: entry[key] for key in entry if key in Image.__annotations__}) for entry in entries
            ]
            self._seen = (about.st_mtime_ns, about.st_size)
        except (OSError, ValueError, KeyError, TypeError):
            return
