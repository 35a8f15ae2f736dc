"""The public address: what a client of the service meets."""

from __future__ import annotations

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


class PublicAddress(Protocol):
    """``token``: what pods of the service ask for before they drain; empty where nobody has one."""

    @property
    def token(self) -> str: ...

    async def get(self, path: str, timeout: float) -> Answer:
        """Asks on a new connection, so that any pod may answer. Never raises for a bad, late or missing answer."""
