"""Reads SQL as far as the runner must: where statements end, and which of them cannot run in a transaction.

It knows PostgreSQL's comments (nested), strings, quoted names and dollar quotes, and no grammar beyond that.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""(?P<line>--[^\n]*)
      | (?P<block>/\*)
      | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
      | (?P<string>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*")
      | (?P<dollar>\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$)
      | (?P<word>[A-Za-z_\x80-\uffff][\w$\x80-\uffff]*)
      | (?P<end>;)
      | (?P<open>\()
      | (?P<close>\))
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK = re.compile(r"/\*|\*/")

_ALONE = re.compile(
    r"""(CREATE \s (UNIQUE \s )? INDEX | DROP \s INDEX) \s CONCURRENTLY \b
      | REINDEX \b .* \b CONCURRENTLY \b
      | REINDEX \s (\( .* \) \s?)? (DATABASE | SYSTEM) \b
      | VACUUM \b
      | (CREATE | DROP) \s (DATABASE | TABLESPACE | SUBSCRIPTION) \b
      | ALTER \s SYSTEM \b
      | ALTER \s TABLE \b .* \b DETACH \s PARTITION \b .* \b CONCURRENTLY \b
      | CLUSTER \s* $
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CONTROL = re.compile(
    r"(BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT|PREPARE TRANSACTION|SAVEPOINT|RELEASE)\b", re.IGNORECASE
)


def split(sql: str) -> list[str]:
    """The statements of a script, without comments and with runs of white space as one blank; for looking at only."""
    statements, current, position, atomic = [], list[str](), 0, 0
    while found := _TOKEN.search(sql, position):
        current.append(sql[position : found.start()])
        position = found.end()
        kind = found.lastgroup
        if kind == "line":
            current.append(" ")
        elif kind == "block":
            position = _block_end(sql, position)
            current.append(" ")
        elif kind == "dollar":
            stop = sql.find(found.group(), position)
            position = len(sql) if stop < 0 else stop + len(found.group())
            current.append(sql[found.start() : position])
        elif kind == "end" and atomic == 0:
            statements.append("".join(current))
            current = []
        else:
            atomic = _atomic(found.group(), current, atomic)
            current.append(found.group())
    statements.append("".join([*current, sql[position:]]))
    return [flat for one in statements if (flat := re.sub(r"\s+", " ", one).strip())]


def _atomic(token: str, before: list[str], depth: int) -> int:
    """How deep we are in ``BEGIN ATOMIC ... END``, whose semicolons end no statement."""
    word = token.upper()
    if word == "ATOMIC" and "".join(before).rstrip().upper().endswith("BEGIN"):
        return depth + 1
    if depth and word == "CASE":
        return depth + 1
    return depth - 1 if depth and word == "END" else depth


def _block_end(sql: str, position: int) -> int:
    depth = 1
    for found in _BLOCK.finditer(sql, position):
        depth += 1 if found.group() == "/*" else -1
        if depth == 0:
            return found.end()
    return len(sql)


def needs_no_transaction(statement: str) -> bool:
    """Whether PostgreSQL refuses this statement (of `split`) inside a transaction."""
    return _ALONE.match(statement) is not None


def controls_transaction(statement: str) -> bool:
    """Whether it begins or ends a transaction itself."""
    return _CONTROL.match(statement) is not None
