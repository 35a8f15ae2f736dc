"""Posts a letter to Slack, once: its key lies in the message's metadata, where a later try finds it."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from handover.people.blocks import late

if TYPE_CHECKING:
    from airflow.providers.slack.hooks.slack import SlackHook

    from handover.models.message import Letter
    from handover.plan.model import Plan

log = logging.getLogger(__name__)
EVENT = "pms_message"
PAGE, MAX_PAGES = 200, 10
LOOK_BACK_SECONDS = 86_400.0
"""A task that is tried again writes its letter anew, and so later than the one that it looks for."""


def post(plan: Plan, letter: Letter, *, look: bool, again: bool = False) -> None:
    """Raises what Slack's client raises. ``look``: an earlier try may have delivered it, so ask the channel first;
    ``again``: by the redelivery, and so perhaps long after it was written.
    """
    from airflow.providers.slack.hooks.slack import SlackHook

    (channel,) = letter.to
    hook = SlackHook(
        slack_conn_id=plan.messages.slack_connection, timeout=int(plan.messages.timeout_seconds), retry_handlers=[]
    )
    if look and _is_there(hook, channel, letter):
        log.info("%s was delivered by an earlier try", letter.key)
        return
    written = f"{datetime.datetime.fromtimestamp(letter.at, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    hook.call(
        "chat.postMessage",
        json={
            "channel": channel, "text": letter.text, "blocks": [*letter.blocks, *([late(written)] if again else [])],
            "metadata": {"event_type": EVENT, "event_payload": {"key": letter.key}},
        },
    )  # fmt: skip


def _is_there(hook: SlackHook, channel: str, letter: Letter) -> bool:
    """A channel whose history may not be read (scopes channels:read, channels:history) counts as without it: a message
    that comes twice is better than one that never comes.
    """
    from slack_sdk.errors import SlackApiError

    try:
        number = next((one["id"] for one in _channels(hook) if one["name"] == channel.lstrip("#")), None)
        return number is not None and any(_key(found) == letter.key for found in _history(hook, number, letter.at))
    except SlackApiError as error:
        if getattr(error.response, "status_code", 0) != 200:  # it is down: a later try looks again
            raise
        log.warning("nobody knows whether %s was delivered before: %s", letter.key, error)
        return False


def _key(message: dict[str, Any]) -> str:
    metadata = message.get("metadata") or {}
    return (metadata.get("event_payload") or {}).get("key", "") if metadata.get("event_type") == EVENT else ""


def _channels(hook: SlackHook) -> Iterator[dict[str, Any]]:
    return _pages(hook, "conversations.list", "channels", {"types": "public_channel,private_channel"})


def _history(hook: SlackHook, number: str, since: float) -> Iterator[dict[str, Any]]:
    asked = {"channel": number, "oldest": f"{since - LOOK_BACK_SECONDS:.6f}", "include_all_metadata": "true"}
    return _pages(hook, "conversations.history", "messages", asked)


def _pages(hook: SlackHook, method: str, key: str, asked: dict[str, str]) -> Iterator[dict[str, Any]]:
    cursor = ""
    for _ in range(MAX_PAGES):
        answer = hook.call(method, params={**asked, "limit": PAGE, "cursor": cursor})
        yield from answer[key]
        cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
        if not cursor:
            return
