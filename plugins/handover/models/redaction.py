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
    "password|passwd|passphrase|pwd|secret|(?<!unexpected )token|credentials?|authorization|sess(?:ion)?[_-]?id|"
    "(?:api|access|account|private|secret|encryption|signing|subscription)[_-]?key(?:[_-]?base)?"
)
_QUOTED = r"""\\{1,4}["'][^"'\\\n]{0,4096}\\{0,4}["']?"""
"""In quotes that are within a text themselves."""
_VALUE = rf"""(?:{_QUOTED}|"(?:[^"\\\n]|\\.|""){{0,4096}}"?|'(?:[^'\\\n]|\\.|''){{0,4096}}'?|[^\s,;&"'}}]{{1,4096}})"""
_SHAPES = (
    # a key in PEM, also one that is cut
    (
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
        HIDDEN,
    ),
    # scheme://user:password@host, and one long key instead of both
    (r"((?<=\w)://[^\s:/@\"'<>]{0,256}:)(?!\d{1,5}(?:[/?#]|\Z))[^\s\"'<>]{1,256}@", rf"\1{HIDDEN}@"),
    (r"(?<=\w)://(?=[^\s:/@\"'<>]{0,256}\d)[^\s:/@\"'<>]{20,256}@", f"://{HIDDEN}@"),
    # addresses whose path or signature is all that whoever posts there needs
    (r"(\bhooks\.slack\.com/(?:services|workflows|triggers)/)[\w/-]{1,512}", rf"\1{HIDDEN}"),
    (r"(\bdiscord(?:app)?\.com/api/webhooks/)[\w/-]{1,512}", rf"\1{HIDDEN}"),
    (r"(\bwebhook\.office\.com/webhookb2/)[\w/@-]{1,512}", rf"\1{HIDDEN}"),
    (r"([?&](?:sig|(?:x-(?:amz|goog)-)?signature)=)[^\s&\"']{1,4096}", rf"\1{HIDDEN}"),
    # Authorization: Basic ..., also without the header's name
    (r"\b(bearer|basic|token)\s{1,4}(?=[^\s\"',;]{0,4096}[\d=])[\w.~+/=-]{8,4096}", rf"\1 {HIDDEN}"),
    (r"\b(digest\s{1,4})username=[^\n]{0,4096}", rf"\1{HIDDEN}"),
    # Set-Cookie: session=...
    (r"(\bcookie[\"']?\s{0,8}:\s{0,8}[\"']?)(?=[\w.-]{1,256}=)[^\n\"']{1,8192}", rf"\1{HIDDEN}"),
    # NAME_PASSWORD=..., "password": "...", --token ...
    (rf"((?:{_NAMED})(?:\\{{0,4}}[\"'])?\s{{0,8}}(?:=|:(?!//))\s{{0,8}}){_VALUE}", rf"\1{HIDDEN}"),
    (rf"(?<!\S)(--?[\w-]{{0,40}}(?:{_NAMED})\s{{1,4}}){_VALUE}", rf"\1{HIDDEN}"),
    # tokens that say themselves what they are
    (r"\beyJ[\w-]{8,4096}\.[\w-]{2,8192}(?:\.[\w-]{0,4096})?", HIDDEN),
    (r"\b(?-i:AKIA|ASIA)[0-9A-Z]{16}\b", HIDDEN),
    (r"\bAGE-SECRET-KEY-1[0-9A-Z]{10,512}", HIDDEN),
    (
        r"\b(?:gh[pousr]_|github_pat_|gl(?:pat|ptt|dt|rt|soat)-|xox[a-z][.-]|xapp-|[sr]k_(?:live|test)_)[\w-]{10,512}",
        HIDDEN,
    ),
    (r"\b(?:whsec_|dckr_pat_|glsa_|sntry[su]_)[\w=-]{10,512}", HIDDEN),
    (r"\b(?:npm_|hf_|dop_v1_|shpat_)[A-Za-z0-9]{30,256}\b", HIDDEN),
    (r"\b(?-i:AIza|ya29\.|GOCSPX-|ATATT3|ATCTT3|hvs\.|SG\.|pypi-AgE)[\w.=-]{16,512}", HIDDEN),
    (r"\bsk-(?=[\w-]{0,512}\d)[\w-]{20,512}", HIDDEN),
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
