"""What others have written, pods above all, without what looks like a secret: before it is logged, told or recorded.

Airflow masks what it knows itself: the passwords of its connections. Of the secrets that an application prints nobody
here knows anything but their shape.
"""

from __future__ import annotations

import re
import sys
from typing import Any

HIDDEN = "***"
_NAMED = (
    "password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|authorization"
)
_VALUE = r"""(?:"(?:[^"\\\n]|\\.){0,4096}"?|'[^'\n]{0,4096}'?|[^\s,;&"'}]{1,4096})"""
_SHAPES = (
    # a key in PEM, also one that is cut
    (r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", HIDDEN),
    # scheme://user:password@host
    (r"((?<=\w)://[^\s:/@\"'<>]{0,256}:)(?!\d{1,5}/)[^\s\"'<>]{1,256}@", rf"\1{HIDDEN}@"),
    # Authorization: Basic ..., also without the header's name
    (r"\b(bearer|basic|token)\s{1,4}(?=[^\s\"',;]{0,4096}[\d=_-])[\w.~+/=-]{8,4096}", rf"\1 {HIDDEN}"),
    # NAME_PASSWORD=..., "password": "...", --token ...
    (rf"((?:{_NAMED})[\"']?\s{{0,8}}(?:=|:(?!//))\s{{0,8}}){_VALUE}", rf"\1{HIDDEN}"),
    (rf"(?<!\S)(--?[\w-]{{0,40}}(?:{_NAMED})\s{{1,4}}){_VALUE}", rf"\1{HIDDEN}"),
    # tokens that say themselves what they are
    (r"\beyJ[\w-]{8,4096}\.[\w-]{2,8192}(?:\.[\w-]{0,4096})?", HIDDEN),
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", HIDDEN),
    (r"\bAGE-SECRET-KEY-1[0-9A-Z]{10,512}", HIDDEN),
    (r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|xapp-|sk_live_|rk_live_)[\w-]{10,512}", HIDDEN),
)
_PATTERNS = tuple((re.compile(shape, re.IGNORECASE | re.DOTALL), put) for shape, put in _SHAPES)


def redacted(text: str) -> str:
    """The same text with each secret as ``***``; doing it twice is doing it once."""
    if "airflow" in sys.modules:  # else Airflow knows no secret, and a command that moves traffic has no second to lose
        from airflow.sdk.log import redact  # type: ignore[attr-defined]

        text = str(redact(text))
    return by_shape(text)


def cleaned(value: Any) -> Any:
    """The same for every text in it, however deep; and without NUL, which PostgreSQL does not have."""
    if isinstance(value, str):
        return redacted(value.replace("\0", ""))
    if isinstance(value, (list, tuple)):
        return [cleaned(one) for one in value]
    if isinstance(value, dict):
        return {cleaned(key): cleaned(one) for key, one in value.items()}
    return value


def by_shape(text: str) -> str:
    """Without what looks like a secret, whoever knows it."""
    for pattern, put in _PATTERNS:
        text = pattern.sub(put, text)
    return text
