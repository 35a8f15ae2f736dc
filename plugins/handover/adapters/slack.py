"""Posts letters to Slack, once: a letter's key lies in the message's metadata, where a later try finds it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from handover.adapters.refusals import MAX_WORDS, hidden
from handover.models.markup import slack
from handover.plan.parts import required
from handover.ports.channel import ServiceRefused

if TYPE_CHECKING:
    from urllib.request import Request

    from airflow.providers.slack.hooks.slack import SlackHook
    from slack_sdk.errors import SlackApiError

    from handover.models.message import Letter
    from handover.plan.model import Plan

log = logging.getLogger(__name__)
EVENT = "pms_message"
PAGE, MAX_PAGES = 200, 10
LOOK_BACK_SECONDS = 86_400.0
"""A task that is tried again writes its letter anew, and so later than the one that it looks for."""


class Slack:
    """Slack's Web API, through an Airflow connection."""

    def __init__(self, plan: Plan) -> None:
        self._connection = required(plan.messages.slack_connection, "messages.slack_connection")
        self._timeout = max(1, int(plan.messages.timeout_seconds))

    def deliver(self, letter: Letter, *, look: bool) -> None:
        """Raises what Slack's client raises when there is no answer."""
        from slack_sdk.errors import SlackApiError

        (channel,) = letter.to
        hook = hook_of(self._connection, self._timeout)
        try:
            if look and _is_there(hook, channel, letter):
                log.info("%s was delivered by an earlier try", letter.key)
                return
            metadata = {"event_type": EVENT, "event_payload": {"key": letter.key}}
            message = {
                "channel": channel, "text": slack(letter.text), "blocks": [*letter.blocks], "metadata": metadata,
                "unfurl_links": False, "unfurl_media": False,
            }  # fmt: skip
            hook.call("chat.postMessage", json=message)
        except SlackApiError as error:
            raise ServiceRefused(self._without_secrets(_words(error)), _status(error)) from None

    def _without_secrets(self, text: str) -> str:
        """Slack, or a proxy before it, may say what it was sent."""
        from airflow.sdk import BaseHook

        where = BaseHook.get_connection(self._connection)
        return hidden(text, where.login or "", where.password or "", where.extra_dejson)[:MAX_WORDS]


def hook_of(connection: str, seconds: int) -> SlackHook:
    """Airflow's hook, with one try. Slack's own client would take our token to any host that a redirect names, and
    reads whatever comes.
    """
    from functools import cached_property

    from airflow.providers.slack.hooks.slack import SlackHook
    from slack_sdk import WebClient

    from handover.adapters.straight import Straight

    class Client(WebClient):
        def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
            proxies = {"http": self.proxy, "https": self.proxy} if self.proxy else None
            body: Any = req.data
            with Straight() as http:
                answer = http.request(
                    "POST", url, data=body, headers=dict(req.header_items()), timeout=self.timeout, proxies=proxies
                )
            headers = {name.title(): value for name, value in answer.headers.items()}  # as the client looks them up
            return {"status": answer.status_code, "headers": headers, "body": answer.text}

    class Hook(SlackHook):
        @cached_property
        def client(self) -> WebClient:
            return Client(**self._get_conn_params(conn=self.get_connection(self.slack_conn_id)))

    return Hook(slack_conn_id=connection, timeout=seconds, retry_handlers=[])


def _words(error: SlackApiError) -> str:
    """Slack's own word for it, with the scope that is needed, or what is wrong with the message."""
    answer = getattr(error.response, "data", None)
    if not isinstance(answer, dict) or not answer.get("error"):
        return f"status {_status(error)}"
    needed = [f"needed: {answer['needed']}"] if answer.get("needed") else []
    more = (answer.get("response_metadata") or {}).get("messages") or ()
    return "; ".join(map(str, (answer["error"], *needed, *more)))


def _status(error: SlackApiError) -> int:
    return getattr(error.response, "status_code", 0)


def _is_there(hook: SlackHook, channel: str, letter: Letter) -> bool:
    """A channel whose history may not be read (scopes channels:read, channels:history) counts as without it: a message
    that comes twice is better than one that never comes.
    """
    from slack_sdk.errors import SlackApiError

    try:
        number = next((one["id"] for one in _channels(hook) if one["name"] == channel.lstrip("#")), None)
        return number is not None and any(_key(found) == letter.key for found in _history(hook, number, letter.at))
    except SlackApiError as error:
        if _status(error) != 200:  # it is down: a later try looks again
            raise
        log.warning("nobody knows whether %s was delivered before: %s", letter.key, _words(error)[:MAX_WORDS])
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
