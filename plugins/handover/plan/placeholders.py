"""What a plan may leave open in a text, such as a query: ``{version}``, ``{number}``, ``{colour}``, ``{namespace}``.

Other braces are the text's own: PromQL and JSON have many.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

PLACEHOLDERS = ("version", "number", "colour", "namespace")
"""``number`` is the version without its leading ``v``."""
_OPEN = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_SAFE = re.compile(r"[\w.+:@/-]+", re.ASCII)
"""What means the same inside any quotes of any query language."""


def filled(text: str, *, version: str, **others: str) -> str:
    """The text with what was left open. Raises `ValueError` for a value that could change what a query means."""
    values: Mapping[str, str] = {"version": version, "number": version.removeprefix("v"), **others}

    def value(found: re.Match[str]) -> str:
        given = values.get(found[1], "")
        if not _SAFE.fullmatch(given):
            raise ValueError(f"{found[1]} {given!r} cannot stand in a query")
        return given

    return _OPEN.sub(value, text)


def _names_the_version(text: str) -> str:
    if not {"version", "number"} & set(_OPEN.findall(text)) or set("{} ") & set(_OPEN.sub("", text)):
        raise ValueError(
            "a release is named after {version} or {number}, such as shop@{number}; nothing else is in braces"
        )
    return text


ReleaseName = Annotated[str, AfterValidator(_names_the_version)]
