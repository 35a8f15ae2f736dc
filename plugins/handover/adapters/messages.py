"""What PostgreSQL and its programs say, for people: names stay; values of rows and of statements do not.

PostgreSQL puts both between the same quotation marks. A name stands behind the word for its kind (`_KINDS`); whatever
else is quoted is taken for a value. What a function of the service says in its own words (RAISE) is not shown.
"""

from __future__ import annotations

import re

RAISED = "RAISE in the service's own code: its words are in the server's log, for they may be a row's"
MOST_CHARACTERS = 1000
_KINDS = (
    "aggregate", "class", "collation", "column", "configuration", "constraint", "cursor", "database", "dictionary",
    "domain", "encoding", "extension", "family", "function", "group", "index", "label", "language", "mapping", "method",
    "object", "operator", "option", "parameter", "policy", "procedure", "publication", "reference", "relation", "role",
    "rule", "schema", "sequence", "server", "slot", "statement", "subscription", "table", "tablespace", "trigger",
    "type", "user", "view", "wrapper",
)  # fmt: skip
_NAMED = re.compile(
    rf"""\b(?:{"|".join(_KINDS)})[ ]"[^\W\d][\w$.-]*"            # a name
      | \b(?:server[ ]at|host|host[ ]name|socket|file)[ ]"[\w./:@%~-]+"  # where a server or a certificate is
    """,
    re.VERBOSE,
)
_NEAR = re.compile(r"""\bat or near "(?:\w+|[^\w\s"']+)"$""")
"""A word or a sign of a statement, or of a value that is read as such."""
_MARK = re.compile('["«»„“”]')
"""What quotes in the languages of PostgreSQL's messages."""
_OWN_LINE = re.compile(r"(?:\S*/)?pg_\w+: ")
_SERVERS_WORDS = re.compile(r"(?<=:  )\S.*")


def masked(message: str, *, of_statement: bool = False) -> str:
    """A message with ``"..."`` from the first value to the last quotation mark: a value may have such marks, too.

    :param of_statement: it says where in the statement itself something is wrong
    """
    named = [found.span() for found in _NAMED.finditer(message)]
    named += [found.span() for found in _NEAR.finditer(message) if of_statement]
    marks = [found.start() for found in _MARK.finditer(message)]
    first = next((place for place in marks if not any(begin <= place < end for begin, end in named)), None)
    if first is None:
        return message
    return f'{message[:first]}"..."{message[marks[-1] + 1 :] if marks[-1] > first else ""}'


def printed(errors: bytes) -> str:
    """What a program of PostgreSQL says as its last words: its own lines, `masked`. What stands between them (DETAIL,
    CONTEXT, the command) quotes rows and whole statements.
    """
    lines = errors.decode("utf-8", "replace").splitlines()
    own = [line for line in lines if _OWN_LINE.match(line)]
    if any(line.endswith(" RAISE") for line in lines):
        own = [_SERVERS_WORDS.sub(RAISED, line) for line in own]
    return "\n".join(masked(line) for line in own)[-MOST_CHARACTERS:] or "no message"
