"""Section `sources` of the plan: monitors that a watch asks beside pods, probes, database and error tracker, by name.

What is asked for is the ``query`` of a measure. ``{version}``, ``{number}``, ``{colour}`` and ``{namespace}`` of the
watched version are filled in (`handover.plan.placeholders`).
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field

from handover.plan.measures import GIVEN, Measure
from handover.plan.parts import ConnectionId, Count, Name, Seconds, Section, UrlPath
from handover.plan.text import from_yaml

SELECTOR = re.compile(r"\.|[^.\s]+(\.[^.\s]+)*")
"""A dotted path to a number in JSON; ``.`` is all of it."""
DIMENSIONS, STATISTIC = "dimensions", "statistic"


class Monitor(Section, abc.ABC):
    """``timeout_seconds``: a look that is not answered by then is no data."""

    connection: ConnectionId
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 5.0

    def refusal(self, query: str) -> str:
        """Why nobody could be asked so; empty if they could."""
        return ""


class Prometheus(Monitor):
    """Query: PromQL that gives one sample or a scalar. Anything with Prometheus's API, such as Thanos or Mimir."""

    type: Literal["prometheus"]
    path: UrlPath = "/api/v1/query"


class Datadog(Monitor):
    """Query: a metric query that gives one series; its newest complete point of ``window_seconds`` counts. The
    connection's password is the API key, ``application_key`` in its extra the application key.
    """

    type: Literal["datadog"]
    path: UrlPath = "/api/v1/query"
    window_seconds: Seconds = 300.0


class NewRelic(Monitor):
    """Query: NRQL that gives one row with one number. The connection's password is a user key."""

    type: Literal["newrelic"]
    account: Count
    path: UrlPath = "/graphql"

    def refusal(self, query: str) -> str:
        return "" if re.match(r"\s*(select|from)\s", query, re.IGNORECASE) else "NRQL begins with SELECT or FROM"


class CloudWatch(Monitor):
    """Query: an expression of CloudWatch (Metrics Insights, metric math), or a metric as a mapping: ``{namespace,
    metric, statistic, dimensions: {name: value}}``. Its newest complete period within ``window_seconds`` counts. The
    connection is of type aws.
    """

    type: Literal["cloudwatch"]
    window_seconds: Seconds = 600.0
    period_seconds: Literal[1, 5, 10, 30, 60, 300, 900, 3600] = 60

    def refusal(self, query: str) -> str:
        try:
            metric_of(query)
        except ValueError as error:
            return str(error)
        return ""


class JsonOverHttp(Monitor):
    """Query: ``PATH SELECTOR``, such as ``/stats?of={version} queues.0.length``; without a selector the answer itself
    is the number. ``*`` stands for any one key or item, as long as only one has what follows it.
    """

    type: Literal["json"]

    def refusal(self, query: str) -> str:
        path, _, selector = query.strip().partition(" ")
        if not path.startswith("/") or not SELECTOR.fullmatch(selector.strip() or "."):
            return "it is a path that begins with /, a space, and a dotted path to a number in the answer"
        return ""


class Sql(Monitor):
    """Query: one statement that reads one row with one number, from PostgreSQL. It runs read-only."""

    type: Literal["sql"]

    def refusal(self, query: str) -> str:
        good = re.match(r"\s*(select|with|values|table)\b", query, re.IGNORECASE)
        return "" if good else "one statement that reads begins with SELECT, WITH, VALUES or TABLE"


def metric_of(query: str) -> dict[str, Any] | None:
    """A metric of CloudWatch that is written as a mapping; None for an expression. Raises `ValueError`."""
    if not query.lstrip().startswith("{"):
        return None
    try:
        metric = from_yaml(query)
    except yaml.YAMLError:
        raise ValueError("it is no mapping") from None
    texts = {"namespace", "metric", STATISTIC}
    if not isinstance(metric, dict) or not texts <= metric.keys() <= texts | {DIMENSIONS}:
        raise ValueError(f"a metric has namespace, metric, {STATISTIC} and {DIMENSIONS}")
    dimensions = metric.setdefault(DIMENSIONS, {})
    values = [*(metric[one] for one in texts), *(dimensions.values() if isinstance(dimensions, dict) else [None])]
    if not all(isinstance(value, str) and value for value in values):
        raise ValueError("what a metric has is text, and its dimensions are a mapping to text")
    return metric


def _of_their_own(name: str) -> str:
    if name in GIVEN:
        raise ValueError(f"every watch has a source {name} already")
    return name


MonitorName = Annotated[Name, AfterValidator(_of_their_own)]
Source = Annotated[Prometheus | Datadog | NewRelic | CloudWatch | JsonOverHttp | Sql, Field(discriminator="type")]


def ask_for_all(measures: Iterable[Measure], sources: Mapping[str, Source]) -> None:
    """Raises `ValueError` for a measure that no source could be asked for."""
    for one in measures:
        where = f"measures: {one.name} of {one.source}"
        if one.source in GIVEN:
            if one.query:
                raise ValueError(f"{where}: this source takes no query")
        elif one.source not in sources:
            known = ", ".join((*GIVEN, *sources))
            raise ValueError(f"{where}: there is no such source; there are {known}")
        elif not one.query:
            raise ValueError(f"{where} needs a query")
        elif why := sources[one.source].refusal(one.query):
            raise ValueError(f"{where}: its query is not good: {why}")
