"""The public address: what a client of the service meets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_BODY_BYTES = 2**16
"""Of a body so much is kept."""
MAX_WHOLE_BYTES = 2**26
"""A larger body is no answer."""


@dataclass(frozen=True)
class Answer:
    """One answer on a connection of its own. ``problem``: why there was none ("" for an answer of any status);
    ``seconds``: how long it took; ``headers`` by lower-case name; ``body``: its first `MAX_BODY_BYTES`.
    """

    seconds: float
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    body: str = ""

    @property
    def stored_seconds(self) -> int:
        """See `stored_seconds`."""
        return stored_seconds(self.headers)


def stored_seconds(headers: Mapping[str, str]) -> int:
    """How long a cache has had an answer with these headers (in lower case); 0 for one that is given now, as far as it
    says.
    """
    age = headers.get("age", "")
    return int(age) if age.isdecimal() else 0


def stored(seconds: int) -> str:
    """Why an answer that a cache has had for so long is no good one; empty for one that is given now."""
    return f"a cache has had this answer for {seconds} s, it does not say who would answer now" if seconds else ""


class PublicAddress(Protocol):
    """``token``: what pods of the service ask for before they drain; empty where nobody has one."""

    @property
    def token(self) -> str: ...

    async def get(self, path: str, timeout: float) -> Answer:
        """Asks on a new connection, so that any pod may answer. Never raises for a bad, late or missing answer."""
