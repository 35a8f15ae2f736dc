"""Searches texts for what nobody may find in them: each secret as it is, and in every form that text may take."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote, quote_plus

SHORTEST = 8
"""Characters; a shorter one is found in what has nothing to do with it."""


class Place(NamedTuple):
    """Where somebody may read, and what stands there."""

    name: str
    text: str


class Found(NamedTuple):
    """A secret by its name, never by itself."""

    secret: str
    form: str
    place: str


def search(places: Iterable[Place], secrets: Mapping[str, str]) -> list[Found]:
    """Which secrets stand where. Raises `ValueError` for one that is too short to be searched for."""
    short = sorted(name for name, secret in secrets.items() if len(secret) < SHORTEST)
    if short:
        raise ValueError(f"too short to be searched for: {', '.join(short)}")
    read = list(places)
    everything = "\0".join(part for place in read for part in place)  # most are nowhere in it
    wanted = [
        (name, form, looks) for name, secret in secrets.items() for looks, form in forms(secret).items()
        if looks in everything
    ]  # fmt: skip
    return [
        Found(name, form, place.name)
        for place in read
        for name, form, looks in wanted
        if looks in place.text or looks in place.name
    ]


def forms(secret: str) -> dict[str, str]:
    """What it looks like, to how it came to: each once, under the plainest name."""
    found: dict[str, str] = {}
    for form, looks in _forms(secret):
        found.setdefault(looks, form)
    return found


def _forms(secret: str) -> Iterator[tuple[str, str]]:
    raw = secret.encode()
    yield "as it is", secret
    once = json.dumps(secret)[1:-1]
    yield "JSON", once
    yield "JSON", json.dumps(secret, ensure_ascii=False)[1:-1]
    yield "JSON in JSON", json.dumps(once)[1:-1]
    yield "repr", repr(secret)[1:-1]
    yield "HTML", html.escape(secret)
    for quoted in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield "URL", quoted
        yield "URL", _lower_percent(quoted)
        yield "URL in URL", quote(quoted, safe="")
    for shift in range(3):
        yield "base64", _in_base64(raw, shift)
        yield "base64", _in_base64(raw, shift).translate(str.maketrans("+/", "-_"))
        for outer in range(3):
            yield "base64 in base64", _in_base64(_in_base64(raw, shift).encode(), outer)
    yield "hex", raw.hex()
    yield "hex", raw.hex().upper()


def _lower_percent(quoted: str) -> str:
    """``%2F`` as ``%2f``."""
    first, *rest = quoted.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _in_base64(raw: bytes, shift: int) -> str:
    """The letters that are the secret's alone when `shift` bytes (modulo 3) stand before it, and any behind it."""
    encoded = base64.b64encode(b"\0" * shift + raw).decode()
    return encoded[math.ceil(shift * 8 / 6) : (shift + len(raw)) * 8 // 6]
