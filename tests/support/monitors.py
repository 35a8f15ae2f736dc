"""Small servers that answer as monitors document it: Prometheus, Datadog, New Relic, Sentry, any JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.web import Answer, Asked

SECRET, APPLICATION_KEY = "s3cret-t0ken", "appl1cation-key"
REFUSED = Answer(401, {"errors": [f"{SECRET} and {APPLICATION_KEY} are not known"]})


@dataclass
class Monitor:
    """Gives ``value`` to whoever asks as it is documented; else what is wrong, with the secret that it was told."""

    value: Any = 1.5
    asked: list[Asked] = field(default_factory=list)
    instead: Answer | None = None
    """What it answers, whatever is asked."""

    def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        if self.instead is not None:
            return self.instead
        where = urlsplit(asked.path)
        return self.answer(asked, where.path, dict(parse_qsl(where.query)))

    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Answer:
        raise NotImplementedError


class Prometheus(Monitor):
    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {SECRET}":
            return REFUSED
        if path != "/api/v1/query" or not query.get("query"):
            error = {"status": "error", "errorType": "bad_data", "error": f"parse error at {SECRET}"}
            return Answer(400, error)
        result = [{"metric": {"job": "web"}, "value": [time.time(), str(self.value)]}]
        return Answer(200, {"status": "success", "data": {"resultType": "vector", "result": result}})


class Datadog(Monitor):
    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Answer:
        keys = asked.headers.get("dd-api-key"), asked.headers.get("dd-application-key")
        if keys != (SECRET, APPLICATION_KEY) or "authorization" in asked.headers:
            return REFUSED
        if path != "/api/v1/query" or not {"from", "to", "query"} <= query.keys():
            return Answer(400, {"errors": [f"bad query of {SECRET}"]})
        to = int(query["to"]) * 1000
        points = [[to - 60_000, 7.0], [to - 40_000, self.value], [to - 30_000, None], [to - 5_000, 99.0]]
        series = [{"metric": "m", "interval": 20, "scope": "*", "pointlist": points}]
        return Answer(200, {"status": "ok", "res_type": "time_series", "series": series, "query": query["query"]})


class NewRelic(Monitor):
    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Answer:
        if asked.headers.get("api-key") != SECRET or "authorization" in asked.headers:
            return REFUSED
        if asked.method != "POST" or path != "/graphql":
            return Answer(404)
        given = asked.body["variables"]
        if given["account"] != 7 or "nrql(query: $nrql" not in asked.body["query"]:
            return Answer(200, {"errors": [{"message": f"no account for {SECRET}"}]})
        found = {"actor": {"account": {"nrql": {"results": [{"percentile.duration": {"99": self.value}}]}}}}
        return Answer(200, {"data": found})


class Json(Monitor):
    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {SECRET}":
            return REFUSED
        if path != "/stats":
            return Answer(404, {"error": SECRET})
        return Answer(200, {"queues": [{"name": "mail", "length": self.value}]})


class Sentry(Monitor):
    """Its value is how many issues were first seen in the release v1.1.0."""

    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {SECRET}":
            return REFUSED
        if unquote(path).endswith("/releases/v1.1.0/"):
            return Answer(200, {"version": "v1.1.0"})
        if not path.endswith("/issues/") or 'first-release:"v1.1.0"' not in query.get("query", ""):
            return Answer(404, {"detail": SECRET})
        return Answer(200, [{"id": str(n)} for n in range(int(self.value))])


MONITORS: dict[str, Callable[[], Monitor]] = {
    "prometheus": Prometheus, "datadog": Datadog, "newrelic": NewRelic, "json": Json, "sentry": Sentry,
}  # fmt: skip
