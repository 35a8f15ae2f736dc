"""How a statement is quoted for people."""

from __future__ import annotations

from handover.database import statements

_PREFIXES = "eEnNbBxXuU&"
"""Of texts, such as ``E'...'``."""


def without_texts(statement: str, most: int = 60) -> str:
    """The first ``most`` characters of a statement without its texts: passwords are among them, and rows."""
    kept, position = list[str](), 0
    for one in statements.read(statement):
        for token, place in zip(one.tokens, one.places, strict=True):
            if token.lstrip(_PREFIXES).startswith("'") or (token.startswith("$") and not token[1:2].isdigit()):
                kept += [statement[position:place], "'...'"]
                position = place + len(token)
    return "".join([*kept, statement[position:]])[:most]
