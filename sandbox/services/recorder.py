"""Everything outside that only has to be told or asked: Slack, status page, Sentry, Datadog, Jira, GitHub, Grafana ...
`python -m sandbox.services.recorder --host --port`. Answers as each would, and keeps every call for tests to read.

The first part of a path names the service: `/slack/api/chat.postMessage`, `/jira/rest/api/2/issue`. What is only asked
has its answers in answers.yaml.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import psutil
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.processes import Process
from sandbox.services import ready
from sandbox.services.component import Component, Context
from sandbox.services.jira import Jira

SERVICES = (
    "slack", "statuspage", "sentry", "datadog", "jira", "jira-cloud", "smtp", "github", "prometheus", "grafana",
    "pagerduty", "flags",
)  # fmt: skip
CANNED = Path(__file__).with_name("answers.yaml")
"""Service to patterns of paths to what a GET answers."""
KEPT = 100_000
SECRET_HEADERS = {"authorization", "cookie", "dd-api-key", "dd-application-key"}
SECRET_FIELDS = {"token"}
MAINTENANCE = ("scheduled", "in_progress", "verifying", "completed")
LISTS = {
    "unresolved": ("investigating", "identified", "monitoring"),
    "upcoming": ("scheduled",),
    "active_maintenance": ("in_progress", "verifying"),
}
"""The status page's own lists, by the states of what is on them."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call, decoded. `path` is what the service itself would have seen, without our prefix."""

    method: str
    path: str
    body: Any
    query: dict[str, str] = field(default_factory=dict)

    def field(self, name: str, default: Any = None) -> Any:
        return self.body.get(name, default) if isinstance(self.body, dict) else default


class Answers:
    """What each service says. Numbers count up, so that no two tickets or incidents share one."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._incidents: dict[str, Json] = {}
        self._posted: dict[str, list[Json]] = {}
        self._jiras = {cloud: Jira(cloud=cloud) for cloud in (False, True)}
        self._canned: dict[str, Json] = yaml.safe_load(CANNED.read_text(encoding="utf-8"))
        self._services: dict[str, Callable[[Call], Response]] = {
            "slack": self._slack,
            "statuspage": self._status_page,
            "sentry": lambda call: JSONResponse([] if call.method == "GET" else {}),
            "datadog": lambda call: JSONResponse({"status": "ok", "event": {"id": self._number()}}, 202),
            "jira": partial(self._jira, False),
            "jira-cloud": partial(self._jira, True),
            "prometheus": self._prometheus,
            "smtp": lambda call: JSONResponse({}),
        }

    def to(self, service: str, call: Call) -> Response:
        if call.method == "GET":
            for pattern, body in self._canned.get(service, {}).items():
                if fnmatch(call.path, pattern):
                    return JSONResponse(body)
        known = self._services.get(service)
        return known(call) if known else JSONResponse({"message": "Not Found"}, 404)

    def _number(self) -> int:
        return next(self._numbers)

    def _slack(self, call: Call) -> Response:
        """Web API below /api/; anything else is an incoming webhook, which answers with a bare "ok"."""
        if not call.path.startswith("/api/"):
            return PlainTextResponse("ok")
        method = call.path.removeprefix("/api/")
        channel = str(call.field("channel", "")).lstrip("#")
        now = f"{time.time():.6f}"
        said: dict[str, Json] = {
            "chat.postMessage": {
                "channel": f"C{channel}",
                "ts": now,
                "message": {"text": call.field("text"), "ts": now},
            },
            "chat.update": {"channel": call.field("channel"), "ts": call.field("ts", now), "text": call.field("text")},
            "auth.test": {"user": "deployer", "team": "PMS", "user_id": "U1", "team_id": "T1", "bot_id": "B1"},
            "api.test": {"args": {}},
            "conversations.list": {
                "channels": [
                    {"id": f"C{name}", "name": name, "is_member": True} for name in ("pms-deployments", "pms-incidents")
                ],
                "response_metadata": {"next_cursor": ""},
            },
        }
        if method == "chat.postMessage" and not channel:
            return JSONResponse({"ok": False, "error": "channel_not_found"})
        if method == "chat.postMessage":
            message = {"ts": now, "text": call.field("text"), "metadata": call.field("metadata") or {}}
            self._posted.setdefault(f"C{channel}", []).insert(0, message)
        if method == "conversations.history":
            return JSONResponse({"ok": True, "messages": self._history(call)})
        return JSONResponse({"ok": True, **said.get(method, {})})

    def _history(self, call: Call) -> list[Json]:
        """What was said in a channel, newest first; metadata only for who asks for it."""
        asked = {**call.query, **(call.body if isinstance(call.body, dict) else {})}
        since, limit = float(asked.get("oldest") or 0), int(asked.get("limit") or 100)
        found = [m for m in self._posted.get(asked.get("channel", ""), []) if float(m["ts"]) >= since][:limit]
        if str(asked.get("include_all_metadata")) in ("true", "1"):
            return found
        return [{key: value for key, value in m.items() if key != "metadata"} for m in found]

    def _status_page(self, call: Call) -> Response:
        """Incidents as Statuspage has them: made by POST, changed by PATCH or PUT, listed by GET, newest first. One
        that is scheduled goes through other states than one that just happened, and neither takes the other's.
        """
        wanted, given = call.path.rstrip("/").rpartition("/")[2], call.field("incident") or {}
        known = self._incidents.get(wanted)
        if call.method != "GET" and (known or call.method == "POST"):
            made = {"status": "investigating"} | (known or {}) | given
            if (made["status"] in MAINTENANCE) != ("scheduled_for" in made):
                return JSONResponse({"error": ["Status is not one of this kind of incident"]}, 422)
            number = wanted if known else f"incident-{self._number()}"
            self._incidents[number] = {"id": number} | made
            return JSONResponse(self._incidents[number], 200 if known else 201)
        if known:
            return JSONResponse(known)
        if call.method == "GET":
            states = LISTS.get(wanted)
            found = reversed(self._incidents.values())
            return JSONResponse([one for one in found if states is None or one["status"] in states])
        return JSONResponse({"error": "not found"}, 404)

    def _prometheus(self, call: Call) -> Response:
        """An instant query, whatever it asks for, is told the busy share of this machine's CPU since the last one."""
        if call.path != "/api/v1/query":
            return JSONResponse({"status": "error", "error": "not found"}, 404)
        value = [time.time(), str(psutil.cpu_percent() / 100)]
        data = {"resultType": "vector", "result": [{"metric": {}, "value": value}]}
        return JSONResponse({"status": "success", "data": data})

    def _jira(self, cloud: bool, call: Call) -> Response:
        status, body = self._jiras[cloud].answer(call.method, call.path, call.body, call.query)
        return Response(status_code=status) if body is None else JSONResponse(body, status)


def create_app() -> Starlette:
    recorded: deque[Json] = deque(maxlen=KEPT)
    overrides: dict[str, dict[str, Json]] = {}
    answers = Answers()

    async def service(request: Request) -> Response:
        name, path = request.path_params["service"], "/" + request.path_params["path"]
        if name not in SERVICES:
            return JSONResponse({"error": f"no service {name}; there are {', '.join(SERVICES)}"}, 404)
        body = decode(await request.body(), request.headers.get("content-type", ""))
        recorded.append(
            {
                "service": name,
                "method": request.method,
                "path": path,
                "query": dict(request.query_params),
                "body": body,
                "headers": {key: value for key, value in request.headers.items() if key not in SECRET_HEADERS},
                "at": datetime.now(UTC).isoformat(),
            }
        )
        for pattern, override in overrides.get(name, {}).items():
            if fnmatch(path, pattern):
                return overridden(override)
        return answers.to(name, Call(request.method, path, body, dict(request.query_params)))

    async def read(request: Request) -> Response:
        wanted = request.query_params.get("service")
        return JSONResponse([call for call in recorded if wanted in (None, call["service"])])

    async def forget(_request: Request) -> Response:
        recorded.clear()
        return Response(status_code=204)

    async def answer(request: Request) -> Response:
        """`{"status", "body", "headers", "path"}` from now on, for paths of this pattern (all by default); an empty
        object: as usual again.
        """
        name = request.path_params["service"]
        if name not in SERVICES:
            return JSONResponse({"error": f"no service {name}"}, 404)
        wanted = await request.json()
        if wanted:
            overrides.setdefault(name, {})[wanted.get("path", "*")] = wanted
        else:
            overrides.pop(name, None)
        return Response(status_code=204)

    async def usual(request: Request) -> Response:
        overrides.pop(request.path_params["service"], None)
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/", lambda _request: JSONResponse({"services": SERVICES})),
            Route("/recorded", read, methods=["GET"]),
            Route("/recorded", forget, methods=["DELETE"]),
            Route("/answers/{service}", answer, methods=["PUT"]),
            Route("/answers/{service}", usual, methods=["DELETE"]),
            Route("/{service}/{path:path}", service, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]
    )


def overridden(wanted: Json) -> Response:
    content, status, headers = wanted.get("body"), wanted.get("status", 200), wanted.get("headers")
    if isinstance(content, str):
        return PlainTextResponse(content, status, headers)
    return JSONResponse(content, status, headers)


def decode(body: bytes, content_type: str) -> Any:
    """JSON and forms as objects (without tokens), anything else as text, nothing as None."""
    if not body:
        return None
    text = body.decode(errors="replace")
    decoded: Any = text
    if "json" in content_type:
        try:
            decoded = json.loads(text)
        except ValueError:
            return text
    elif "x-www-form-urlencoded" in content_type:
        decoded = dict(parse_qsl(text, keep_blank_values=True))
    if isinstance(decoded, dict):
        return {key: value for key, value in decoded.items() if key not in SECRET_FIELDS}
    return decoded


class Recorder(Component):
    """The recorder on its address."""

    name = "recorder"

    def start(self, context: Context) -> None:
        settings = context.settings
        host, port = settings.host(self.name), settings.port(self.name)
        argv = [sys.executable, "-m", "sandbox.services.recorder", "--host", host, "--port", str(port)]
        process = context.own(Process(self.name, argv, settings.log(self.name)))
        ready.until_answering(settings.url(self.name), process)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.services.recorder", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    uvicorn.run(create_app(), host=given.host, port=given.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
