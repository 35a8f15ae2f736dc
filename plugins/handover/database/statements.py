"""Reads SQL as far as the runner must: where statements end, and what each of them asks of a transaction and a session.

It knows PostgreSQL's lexical rules (nested comments, strings, quoted names, dollar quotes), the two places where a
semicolon ends no statement (``BEGIN ATOMIC ... END`` and parentheses), and no grammar beyond that. Every character is
looked at once. Assumes ``standard_conforming_strings``, which a session of ours has.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

_LETTER = r"A-Za-z_\x80-\U0010ffff"
_TOKEN = re.compile(
    rf"""(?P<blank>[ \t\n\r\f\v]+ | --[^\n\r]*)
      | (?P<block>/\*)
      | (?P<text>[eE]'(?:[^'\\]|\\.|'')*+'? | (?:[nNbBxX]|[uU]&)?'[^']*+(?:''[^']*+)*+'?)
      | (?P<name>(?:[uU]&)?"[^"]*+(?:""[^"]*+)*+"?)
      | (?P<dollar>\$(?:[{_LETTER}][{_LETTER}0-9]*+)?\$)
      | (?P<word>[{_LETTER}][{_LETTER}0-9$]*+)
      | (?P<number>[$.]?[0-9][{_LETTER}0-9.]*+)
      | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_TEXT = re.compile(r"""[A-Za-z]?&?['"]|\$(?!\d)""")
"""How texts and quoted names begin, in which every character is meant."""
_BLOCK = re.compile(r"/\*|\*/")
_INVISIBLE = ("Cf", "Zs", "Zl", "Zp", "Cc")
_IN_NO_TRANSACTION = {
    "VACUUM": ((),),
    "CREATE": (("DATABASE",), ("TABLESPACE",), ("SUBSCRIPTION",)),
    "DROP": (("DATABASE",), ("TABLESPACE",), ("SUBSCRIPTION",)),
    "ALTER": (("SYSTEM",),),
    "REINDEX": (("DATABASE",), ("SYSTEM",), ("SCHEMA",)),
}
"""First word, and what may follow it; besides everything CONCURRENTLY."""
_LIMITS = frozenset({
    "lock_timeout", "statement_timeout", "transaction_timeout", "deadlock_timeout",
    "idle_in_transaction_session_timeout",
})  # fmt: skip
_CONTROL = {"BEGIN", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}
_OPENS = ({"BEGIN"}, {"WORK", "TRANSACTION"})
_CLOSES = ({"COMMIT", "END"}, {"WORK", "TRANSACTION"})


@dataclass(frozen=True)
class Statement:
    """One statement: ``text`` without comments and with blanks for white space, its tokens as they are written, where
    each of them begins in the file, and where the last one ends.
    """

    text: str
    tokens: tuple[str, ...] = field(repr=False)
    places: tuple[int, ...] = field(repr=False)
    end: int

    @property
    def start(self) -> int:
        return self.places[0]

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The tokens, those that may be keywords in upper case."""
        return tuple(token.upper() if token.isascii() and token[0].isalpha() else token for token in self.tokens)

    @property
    def opens(self) -> bool:
        """A plain BEGIN."""
        return self.words == ("START", "TRANSACTION") or _is(self.words, *_OPENS)

    @property
    def closes(self) -> bool:
        """A plain COMMIT."""
        return _is(self.words, *_CLOSES)

    @property
    def controls(self) -> bool:
        """Whether it begins, ends or divides a transaction."""
        return self.words[0] in _CONTROL or self.words[:2] in (("START", "TRANSACTION"), ("PREPARE", "TRANSACTION"))

    @property
    def limits(self) -> bool:
        """Sets or resets how long it may wait or work, as the head of every file of pg_dump does."""
        rest = self.words[2:] if self.words[1:2] in (("LOCAL",), ("SESSION",)) else self.words[1:]
        return self.words[0] in ("SET", "RESET") and rest[:1] != () and rest[0].strip('"').lower() in _LIMITS

    @property
    def concurrent(self) -> bool:
        """Builds, drops or rebuilds an index CONCURRENTLY: it waits for other transactions, and nobody behind it."""
        first, words = self.words[0], self.words
        if first in ("CREATE", "DROP"):
            after = [word for word in words[1:4] if word != "UNIQUE"]
            return after[:2] == ["INDEX", "CONCURRENTLY"]
        if first != "REINDEX":
            return False
        options, target = _parenthesis(words)
        off = {"FALSE", "OFF", "0"}
        asked = [(options[n + 1 : n + 2] or (",",))[0] for n, word in enumerate(options) if word == "CONCURRENTLY"]
        return any(value not in off for value in asked) or target[1:2] == ("CONCURRENTLY",)

    @cached_property
    def detaches(self) -> tuple[str, str] | None:
        """Parent and partition of ``DETACH PARTITION ... CONCURRENTLY``, as SQL."""
        if self.words[:2] != ("ALTER", "TABLE") or self.words[-1] != "CONCURRENTLY" or "DETACH" not in self.words:
            return None
        parent, position = self._name(2, {"IF", "EXISTS", "ONLY"})
        if self.words[position : position + 2] != ("DETACH", "PARTITION"):
            return None
        return parent, self._name(position + 2, set())[0]

    @cached_property
    def index(self) -> str | None:
        """The index that it makes or drops CONCURRENTLY, as SQL; None when it gives no name."""
        if not self.concurrent or self.words[0] == "REINDEX":
            return None
        position = self.words.index("CONCURRENTLY") + 1
        name, after = self._name(position, {"IF", "NOT", "EXISTS"})
        return None if self.words[0] == "CREATE" and self.words[after : after + 1] != ("ON",) else name or None

    @cached_property
    def indexed(self) -> str | None:
        """The table of such a CREATE INDEX, as SQL."""
        if not self.concurrent or self.words[0] != "CREATE" or "ON" not in self.words:
            return None
        return self._name(self.words.index("ON") + 1, {"ONLY"})[0]

    @property
    def alone(self) -> bool:
        """Whether PostgreSQL refuses it inside a transaction."""
        if self.concurrent or self.detaches is not None or self.words[:2] == ("DISCARD", "ALL"):
            return True
        if self.words[0] == "CLUSTER":
            return len(_parenthesis(self.words)[1]) == 0 or self.words == ("CLUSTER", "VERBOSE")
        if self.words[:2] == ("ALTER", "SUBSCRIPTION"):
            return not {"REFRESH", "PUBLICATION"}.isdisjoint(self.words)
        rest = _parenthesis(self.words)[1]
        return any(rest[: len(what)] == what for what in _IN_NO_TRANSACTION.get(self.words[0], ()))

    @property
    def problem(self) -> str | None:
        """Why no migration of ours may have it, wherever it stands."""
        if "\\" in self.tokens:
            return "it has a command of psql (a backslash), which only psql knows"
        for token in self.tokens:
            if not _TEXT.match(token) and (strange := next((c for c in token if _invisible(c)), None)):
                return f"it has an invisible character (U+{ord(strange):04X} {unicodedata.name(strange, '')})"
        pairs = pairwise(_outside(self.words)) if self.words[0] == "COPY" else ()
        if any(way in ("FROM", "TO") and what in ("STDIN", "STDOUT") for way, what in pairs):  # any two go together
            return "COPY between the server and a client: there is no client, write the rows as INSERT"
        texts = {token.strip("'").lower() for token in self.tokens}
        if "set_config" in texts and not _LIMITS.isdisjoint(texts):
            return "how long a migration may wait and work is the plan's to say: leave it out"
        if (self.concurrent or self.detaches) and any(token[:2].upper() == "U&" for token in self.tokens):
            return 'it has a name of the form U&"...": write it as it is'
        if self.words[:1] == ("DISCARD",):
            return "DISCARD belongs to a session and not to a migration: every migration begins with a fresh one"
        return None

    def _name(self, position: int, before: set[str]) -> tuple[str, int]:
        """A name at this place, as SQL, behind words that may stand before it; and where it ends."""
        while position < len(self.words) and self.words[position] in before:
            position += 1
        begin = position
        while position < len(self.tokens) and (position == begin or self.tokens[position - 1] == "."):
            position += 1
            if self.tokens[position : position + 1] == (".",):
                position += 1
        return "".join(self.tokens[begin:position]), position


def read(sql: str) -> list[Statement]:
    """The statements of a script."""
    found, current = list[Statement](), _Reading()
    for kind, start, end in _tokens(sql):
        if kind == "blank":
            current.pieces.append(" ")
            continue
        piece = sql[start:end]
        if piece == ";" and not current.depth and not current.atomic:
            found.append(current.done(start))
            current = _Reading()
            continue
        current.add(kind, piece, start)
    found.append(current.done(len(sql)))
    return [statement for statement in found if statement.tokens]


def split(sql: str) -> list[str]:
    """Their texts, for looking at only."""
    return [statement.text for statement in read(sql)]


class _Reading:
    """The statement that is being read."""

    def __init__(self) -> None:
        self.pieces, self.tokens, self.places = list[str](), list[str](), list[int]()
        self.depth, self.atomic, self.before = 0, 0, ""

    def add(self, kind: str, piece: str, start: int) -> None:
        self.pieces.append(piece)
        self.tokens.append(piece)
        self.places.append(start)
        if piece == "(":
            self.depth += 1
        elif piece == ")":
            self.depth = max(0, self.depth - 1)
        elif kind == "word":
            self._word(piece.upper())

    def _word(self, word: str) -> None:
        """``BEGIN ATOMIC ... END`` of a function, with every ``CASE ... END`` in it."""
        if self.atomic:
            self.atomic += ((word == "CASE") - (word == "END")) * (self.before != "AS")
        elif word == "ATOMIC" and self.before == "BEGIN" and self.tokens[0].upper() == "CREATE":
            self.atomic = 1
        self.before = word

    def done(self, end: int) -> Statement:
        text = re.sub(r"[ \t\n\r\f\v]+", " ", "".join(self.pieces)).strip()
        return Statement(text, tuple(self.tokens), tuple(self.places), end)


def _tokens(sql: str) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of each. What is never closed goes on to the end: PostgreSQL will say so."""
    position = 0
    while position < len(sql):
        found = _TOKEN.match(sql, position)
        assert found is not None and found.lastgroup is not None
        start, position, kind = position, found.end(), found.lastgroup
        if kind == "block":
            kind, position = "blank", _block_end(sql, position)
        elif kind == "dollar":
            stop = sql.find(found.group(), position)
            kind, position = "text", len(sql) if stop < 0 else stop + len(found.group())
        yield kind, start, position


def _block_end(sql: str, position: int) -> int:
    depth = 1
    for found in _BLOCK.finditer(sql, position):
        depth += 1 if found.group() == "/*" else -1
        if depth == 0:
            return found.end()
    return len(sql)


def _is(words: Sequence[str], first: set[str], second: set[str]) -> bool:
    return words[0] in first and (len(words) == 1 or (len(words) == 2 and words[1] in second))


def _parenthesis(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands in parentheses behind the first word, and what comes after them."""
    if words[1:2] != ("(",):
        return (), tuple(words[1:])
    close = words.index(")") if ")" in words else len(words)
    return tuple(words[2:close]), tuple(words[close + 1 :])


def _outside(words: Sequence[str]) -> list[str]:
    """Those in no parentheses."""
    depth, found = 0, list[str]()
    for word in words:
        depth += (word == "(") - (word == ")")
        if depth == 0:
            found.append(word)
    return found


def _invisible(character: str) -> bool:
    return not character.isascii() and unicodedata.category(character) in _INVISIBLE
