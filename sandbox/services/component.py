"""What every service of the sandbox is to the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.processes import Process
from sandbox.settings import Settings


@dataclass(frozen=True)
class Context:
    """What a component is given when it starts."""

    settings: Settings
    own: Callable[[Process], Process]
    """Hands a process over to the sandbox, which watches it from then on and stops it in the end."""
    warn: Callable[[str], None]
    """Tells the person who started it of something that is wrong without stopping anything."""


class Component:
    """A part of the sandbox. `start` returns when it is ready for use; the sandbox stops its processes."""

    name: str
    needs: tuple[str, ...] = ()
    """Names of components that must be ready before this one starts."""
    grace_seconds: float = 15.0
    """How long its processes may take to end."""

    def start(self, context: Context) -> None:
        raise NotImplementedError

    def remove(self, settings: Settings) -> None:
        """Take away what it made outside of the sandbox's folder; called when its processes have ended."""
