"""What squawk, a linter of migrations, has against a release's files (plan 3.1): it knows the grammar and locks that
`statements` does not.

The plan says which of its rules refuse a migration; the others warn. The way back is judged as the migration is. When
squawk is not there, does not end well or says what nobody here understands, that refuses: it is not "nothing found".
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from handover.adapters.children import harmless
from handover.plan.migration import UNREAD

if TYPE_CHECKING:
    from handover.database.migrations import Script, SqlFile
    from handover.plan.migration import LintRules

OURS = ("require-lock-timeout", "require-statement-timeout", "prefer-robust-stmts")
"""What the runner does for every migration: limits, and all or nothing."""
SECONDS = 60
"""For one file: a usual one takes hundredths."""
SHOWN = 10
"""Warnings in a sentence; the others are counted."""
_IGNORE = b"squawk-ignore"


class LintFailed(Exception):
    """squawk gave no answer that could be understood."""


@dataclass(frozen=True)
class Finding:
    """Something that squawk has against a line of a file. ``ignored``: the file itself asks not to hear of it."""

    file: str
    line: int
    rule: str
    message: str
    ignored: bool = False

    def __str__(self) -> str:
        said = f"{self.file}:{self.line}: {self.rule}: {self.message}"
        return f"{said} (the file has {_IGNORE.decode()})" if self.ignored else said


@dataclass(frozen=True)
class Judged:
    """What refuses the migrations, and what somebody should know."""

    refusals: list[str]
    warnings: list[str]

    @property
    def told(self) -> str:
        """The warnings as the end of a sentence; "" when there are none."""
        shown, more = self.warnings[:SHOWN], len(self.warnings) - SHOWN
        counted = [f"and {more} more"] if more > 0 else []
        return "; warnings: " + "; ".join([*shown, *counted]) if shown else ""


class _Told(BaseModel):
    """One of squawk's findings, as far as it is looked at. ``line`` and ``column`` begin with 0."""

    model_config = ConfigDict(strict=True)

    line: int
    column: int
    level: Literal["Error", "Warning"]
    rule_name: str
    message: str


_ANSWER = TypeAdapter(list[_Told])


def judged(scripts: Iterable[Script], rules: LintRules, major: int) -> Judged:
    """What the plan's rules say to these migrations and their ways back, on a PostgreSQL of this major version."""
    refusals, warnings = list[str](), list[str]()
    for script in scripts:
        for file in (script.forward, script.back):
            if file is None:
                continue
            name = f"{script.name}/{file.kind}"
            if file.unreadable:
                refusals.append(f"{script.name}: {file.unreadable}")
                continue
            try:
                found = findings(name, file, rules, major)
            except LintFailed as error:
                refusals.append(f"{name} was not judged: {error}")
                continue
            for one in found:
                (refusals if one.rule in rules.refuse and not one.ignored else warnings).append(str(one))
    return Judged(refusals, warnings)


def findings(name: str, file: SqlFile, rules: LintRules, major: int) -> list[Finding]:
    """All that squawk has against a file, but for what the plan ignores. Raises `LintFailed`.

    Also what a comment in the file asks squawk to pass over: it is found, and marked so.
    """
    text, options = file.sent, _options(file, rules, major)
    told = _told(text.replace(_IGNORE, b" " * len(_IGNORE)), options)
    heard = {(one.line, one.column, one.rule_name) for one in _told(text, options)} if _IGNORE in text else None
    return [
        Finding(
            name, one.line + 1, one.rule_name, one.message,
            ignored=heard is not None and (one.line, one.column, one.rule_name) not in heard,
        )
        for one in told
    ]  # fmt: skip


def _options(file: SqlFile, rules: LintRules, major: int) -> list[str]:
    """squawk itself refuses names of rules that it does not have."""
    asked = [rule for rule in rules.refuse if rule != UNREAD]
    options = [f"--pg-version={major}", f"--exclude={','.join((*OURS, *rules.ignore))}"]
    options += [f"--include={','.join(asked)}"] if asked else []
    return options if file.alone else [*options, "--assume-in-transaction"]


def _told(text: bytes, options: Sequence[str]) -> list[_Told]:
    """Its answer. It reads no file, neither of ours nor settings that lie about."""
    command = [_program(), f"--config={os.devnull}", "--reporter=json", *options]
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=SECONDS, check=False, env=harmless())
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LintFailed(f"squawk does not run: {type(error).__name__}") from None
    if done.returncode not in (0, 1):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise LintFailed(f"squawk ended with {done.returncode}: {said[0][:300] if said else 'no message'}")
    try:
        found = _ANSWER.validate_json(done.stdout)
    except ValidationError:
        raise LintFailed("squawk's answer is not one of the kind that is known here") from None
    if bool(found) != bool(done.returncode):
        raise LintFailed(f"squawk ended with {done.returncode} and gave {len(found)} findings")
    if unread := [one for one in found if (one.level == "Error") != (one.rule_name == UNREAD)]:
        raise LintFailed(f"squawk gave {unread[0].rule_name} as {unread[0].level}")
    return found


def _program() -> str:
    """The one that was installed with us, or else one of the path. Raises `LintFailed`."""
    found = shutil.which("squawk", path=sysconfig.get_path("scripts")) or shutil.which("squawk")
    if found is None:
        raise LintFailed("squawk is not installed (squawk-cli in requirements.txt)")
    return found
