"""The lines of the deployment plan: everything in its text but headings, labels and titles. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEADING = re.compile(r"#{1,6} (?P<title>.+)")
RULE = re.compile(r"-{3,}|\|[-| ]+\|")
LABEL = re.compile(r"\*\*.+\*\*:|\*\*.+:\*\*|[A-Z].*:")
"""What only names the lines below it: "**Success Criteria**:", or "Code & Testing:" within a block."""
MARK = re.compile(r"(- \[ \]|-|\d+\.) +(✅ )?")
COMMENT = re.compile(r"(#|//|--) ")
FENCE = re.compile(r"```(?P<language>\w*)")


class PlanTextError(ValueError):
    """The plan's text is not as the parser expects it; the message names section and line."""


@dataclass(frozen=True)
class PlanLine:
    """One line that somebody or something has to see to; ``text`` is unique within its section."""

    section: str
    text: str


def lines(text: str) -> list[PlanLine]:
    """Every line of the plan, in its order. Nothing but headings, labels, rules, the head of a table and the comments
    right above a command (its title) is left out. Raises `PlanTextError`.
    """
    found: list[PlanLine] = []
    seen: set[str] = set()
    for section, body in _sections(text):
        if section in seen:
            raise PlanTextError(f"two sections are called {section!r}")
        seen.add(section)
        texts = list(_lines_of(body))
        if doubled := sorted({one for one in texts if texts.count(one) > 1}):
            raise PlanTextError(f"{section}: twice: {', '.join(doubled)}")
        found += [PlanLine(section, one) for one in texts]
    return found


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    title, body, in_block = "", list[str](), False
    for line in text.splitlines():
        in_block ^= bool(FENCE.match(line))
        if not in_block and (heading := HEADING.fullmatch(line)):
            if body:
                yield title, body
            title, body = heading["title"].strip(), []
        else:
            body.append(line)
    yield title, body


def _lines_of(body: list[str]) -> Iterator[str]:
    """A block is a list of commands when it names a language, and text like the rest when it does not."""
    language = ""
    block: list[str] | None = None
    for number, line in enumerate(body):
        fence = FENCE.match(line)
        if block is not None and fence:
            yield from _commands(block) if language else filter(None, map(_prose, block))
            block = None
        elif block is not None:
            block.append(line)
        elif fence:
            language, block = fence["language"], []
        elif not _heads_a_table(body[number : number + 2]) and (text := _prose(line)):
            yield text
    if block is not None:
        raise PlanTextError(f"a block of code has no end: {block[:1]}")


def _heads_a_table(pair: list[str]) -> bool:
    return len(pair) == 2 and pair[0].startswith("|") and bool(RULE.fullmatch(pair[1]))


def _prose(line: str) -> str:
    """The text of a line without its marks, or nothing."""
    bare = line.strip()
    if not bare or RULE.fullmatch(bare) or (LABEL.fullmatch(bare) and not MARK.match(bare)):
        return ""
    text = " | ".join(cell.strip() for cell in bare.strip("|").split("|")) if bare.startswith("|") else bare
    mark = MARK.match(text)
    return " ".join((text[mark.end() :] if mark else text).replace("**", "").split())


def _commands(block: Iterable[str]) -> Iterator[str]:
    """Commands, each on one line, and what stands in comments of its own; the comments right above a command are what
    it is called.
    """
    comments: list[str] = []
    for line in _joined(block):
        if COMMENT.match(line):
            comments.append(line.split(" ", 1)[1])
            continue
        if not line:
            yield from comments
        else:
            yield line
        comments = []
    yield from comments


def _joined(block: Iterable[str]) -> Iterator[str]:
    """Lines that a backslash, or a statement without its semicolon, continues on the next one."""
    held = ""
    for line in block:
        whole = f"{held} {line.strip()}".strip()
        held = ""
        if whole.endswith("\\"):
            held = whole.removesuffix("\\").strip()
        elif whole.startswith("SELECT") and ";" not in whole:
            held = whole
        else:
            yield " ".join(whole.split())
    if held:
        yield held
