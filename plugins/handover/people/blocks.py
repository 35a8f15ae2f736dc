"""A message as Slack's Block Kit shows it: header, text, fields, and links to where there is more. Pure functions."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from handover.models.markup import slack, slack_link

MAX_HEADER, MAX_TEXT, MAX_FIELD, MAX_FIELDS = 150, 3000, 2000, 10
"""Slack's own limits, in characters and fields; what is longer is refused as a whole."""
HERE = "@here"

Block = dict[str, Any]


def blocks(title: str, text: str, fields: Mapping[str, str], links: Mapping[str, str]) -> tuple[Block, ...]:
    """``title``: without one there is no header; ``links``: name to address, those without an address are left out."""
    found: list[Block] = []
    if title:
        found.append({"type": "header", "text": {"type": "plain_text", "text": _cut(title, MAX_HEADER)}})
    found.append({"type": "section", "text": _mrkdwn(mrkdwn(text))})
    if shown := {name: value for name, value in fields.items() if value}:
        cells = [_mrkdwn(f"*{slack(name)}*\n{slack(value)}", MAX_FIELD) for name, value in shown.items()]
        found.append({"type": "section", "fields": cells[:MAX_FIELDS]})
    if known := [slack_link(address, name) for name, address in links.items() if address]:
        found.append({"type": "context", "elements": [_mrkdwn(" · ".join(known))]})
    return tuple(found)


def mrkdwn(text: str) -> str:
    """Only an ``@here`` at the very beginning calls people: what stands further on may be anybody's words."""
    here = text.startswith(HERE)
    return ("<!here>" if here else "") + slack(text.removeprefix(HERE) if here else text)


def late(at: float) -> Block:
    """Below a message that got through at a later try. ``at``: when it was written, seconds since the epoch."""
    written = f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    return {"type": "context", "elements": [_mrkdwn(f"delivered late: written at {written}")]}


def _mrkdwn(text: str, length: int = MAX_TEXT) -> Block:
    return {"type": "mrkdwn", "text": _cut(text, length)}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
