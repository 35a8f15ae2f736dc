"""What others write to us, tried with inputs that nobody has thought of: `make fuzz`; a few of each in `make test`.

A property says: a value, or the one error that is documented; nothing was executed, opened or asked; and no more work
than the input's size allows, counted in lines of Python, never in seconds.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

FEW = 20
"""Examples of each property in `make test`."""
MOST_SAID = 5000
"""Characters of an error."""
SURFACES = ("trigger form", "plan file", "bundle", "CSV", "metrics", "registry", "channels")
T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., Any])


class Examples:
    """How many are tried, and how many were. The option `--fuzz` sets `wanted`."""

    wanted = FEW
    tried = 0

    @classmethod
    def taken(cls) -> int:
        """Those of the test that has just ended."""
        tried, cls.tried = cls.tried, 0
        return tried


def fuzz(surface: str) -> Callable[[Test], Test]:
    """Marks a property (above `given`) as one of this surface."""
    assert surface in SURFACES, surface

    def of(test: Test) -> Test:
        inner = test.hypothesis.inner_test  # type: ignore[attr-defined]

        @functools.wraps(inner)
        def counted(*args: Any, **named: Any) -> Any:
            Examples.tried += 1
            return inner(*args, **named)

        test.hypothesis.inner_test = counted  # type: ignore[attr-defined]
        known = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
        how = settings(max_examples=Examples.wanted, deadline=None, suppress_health_check=known)
        return pytest.mark.fuzz(surface)(how(test))

    return of


def tried(work: Callable[[], T], *refusals: type[Exception], most: int = MOST_SAID) -> tuple[T | None, str]:
    """What it gives, or what it says when it refuses, which has an end; and nothing happens in either case."""
    try:
        with nothing_happens():
            return work(), ""
    except refusals as error:
        said = str(error)
    assert 0 < len(said) <= most, said
    return None, said


# --- nothing is executed

_NEVER = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.rmdir",
          "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.kill", "pickle.find_class", "ctypes.dlopen", "shutil.",
          "socket.connect", "socket.getaddrinfo", "webbrowser.open", "code.__new__")  # fmt: skip
_watching: list[list[str]] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event.startswith(_NEVER) or (event == "open" and _writes(args) and not _is_temporary(args[0])):
        _watching[-1].append(f"{event}{args!r:.200}")


def _writes(args: tuple[Any, ...]) -> bool:
    return isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _is_temporary(path: object) -> bool:
    return isinstance(path, int) or str(path).startswith((tempfile.gettempdir(), "/dev/shm/"))


sys.addaudithook(_audit)


@contextmanager
def nothing_happens(*but: str) -> Iterator[None]:
    """Fails if a program is started, a file written, a host asked or an object unpickled in the block.

    :param but: beginnings of the audit events that are right here
    """
    seen: list[str] = []
    _watching.append(seen)
    try:
        yield
    finally:
        _watching.pop()
    wrong = [one for one in seen if not one.startswith(but or ("\0",))]
    assert not wrong, wrong


# --- no more work than there is input


@contextmanager
def work_below(lines: int) -> Iterator[None]:
    """Fails as soon as more lines of Python than this are run in the block, in this thread."""
    left = lines

    def count(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            assert left >= 0, f"more than {lines} lines of Python were run"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)
