"""What goes into a command, and what is told of its end. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handover.models.redaction import redacted

if TYPE_CHECKING:
    from handover.kube.jobs import JobResult


def filled(text: str, **values: str) -> str:
    """The text with ``{name}`` replaced for every name given; every other brace stays."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def last_words(output: str, lines: int = 5, characters: int = 600) -> str:
    """The end of what a command printed, on one line, without what looks like a secret."""
    kept = [line.strip() for line in redacted(output).splitlines() if line.strip()][-lines:]
    return " | ".join(kept)[-characters:]


def why(result: JobResult) -> str:
    """Why a command did not succeed: the cluster's reason, the exit code, and the last words."""
    code = "" if result.exit_code is None else f"exit code {result.exit_code}"
    said = f"it printed: {words}" if (words := last_words(result.output)) else ""
    return "; ".join(part for part in (result.reason, code, said) if part) or "nobody knows why"
