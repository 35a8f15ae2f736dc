"""Names of images, by the rules of the distribution specification: host, path, tag and digest. Pure.

Nothing else may take such a name apart: a port looks like a tag, and a first part may be a host or a folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

HUB = "docker.io"
"""Where a name without a host lies."""
_HUB_NAMES = (HUB, f"index.{HUB}")
_OFFICIAL = "library/"
"""What a name of one part is kept under there."""
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_ID = re.compile(r"[0-9a-f]{64}")
MAX_PATH = 255


class BadImage(ValueError):
    """The text names no image; it says why."""


@dataclass(frozen=True)
class ImageReference:
    """``host`` is empty where none was written, ``tag`` and ``digest`` too. ``str`` gives what was written."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Raises `BadImage`."""
        name, at, digest = text.partition("@")
        first, slash, rest = name.partition("/")
        host, rest = (first, rest) if slash and _is_host(first) else ("", name)
        path, colon, tag = rest.partition(":")
        for what, written, found, form in (
            ("host", host, host, _HOST), ("path", True, path, _PATH), ("tag", colon, tag, _TAG),
            ("digest", at, digest, _DIGEST),
        ):  # fmt: skip
            if written and not form.fullmatch(found):
                raise BadImage(f"{text!r} is no image: its {what} {found!r} is none")
        if len(path) > MAX_PATH:
            raise BadImage(f"{text!r} is no image: its path has more than {MAX_PATH} characters")
        if not host and _ID.fullmatch(path):
            raise BadImage(f"{text!r} is the id of an image, not its name")
        return cls(host, path, tag, digest)

    @property
    def repository(self) -> str:
        """As it was written, without tag and digest."""
        return f"{self.host}/{self.path}" if self.host else self.path

    @property
    def wanted(self) -> str:
        """What a registry is asked for: a digest wins over a tag, and neither means ``latest``."""
        return self.digest or self.tag or "latest"

    @property
    def pinned(self) -> bool:
        """Whether it is given by a digest that every registry knows."""
        return self.digest.startswith("sha256:")

    @property
    def registry(self) -> str:
        """Host of the registry that has it."""
        return HUB if self.host in ("", *_HUB_NAMES) else self.host.lower()

    @property
    def official(self) -> str:
        """Its path on the hub, where names of one part are kept in a folder of their own; the path elsewhere."""
        on_hub = not self.host or self.host in _HUB_NAMES
        return f"{_OFFICIAL}{self.path}" if on_hub and "/" not in self.path else self.path

    def is_from(self, other: ImageReference) -> bool:
        """Whether both are of one repository, however it is written: ``web`` is ``docker.io/library/web``."""
        return self._home == other._home

    def at(self, digest: str) -> ImageReference:
        """The same image by its digest alone, so that no tag can move it."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        tag, digest = f":{self.tag}" if self.tag else "", f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"

    @property
    def _home(self) -> tuple[str, str]:
        return self.registry, self.official


def _is_host(first: str) -> bool:
    """Upper case is for hosts alone."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()
