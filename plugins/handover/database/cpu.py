"""How busy the database's machine is while a migration runs, by Prometheus (plan 3.2).

PostgreSQL does not tell it, so whoever exports the machine's figures is asked. It is measured and on record, not
judged: the plan gives it no limit. A source that is away stops and delays no migration; its measurements then have no
value.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from handover.adapters.http import request
from handover.models.evidence import Measurement
from handover.models.json_text import decoded
from handover.plan.migration import DatabaseCpu

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)
INTERVAL_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0


def busiest(answer: Mapping[str, Any]) -> float:
    """The highest value of an instant query's answer, a scalar or a vector (Prometheus, "HTTP API").

    Raises ValueError where there is no number: no series matched, or the expression divided by zero.
    """
    data = answer["data"]
    pairs = [data["result"]] if data["resultType"] == "scalar" else [series["value"] for series in data["result"]]
    values = [value for value in (float(text) for _, text in pairs) if math.isfinite(value)]
    if not values:
        raise ValueError("the query has no value")
    return max(values)


class Cpu:
    """Asks every five seconds in a thread of its own, from the beginning to the end; None: there is nobody to ask."""

    def __init__(self, source: DatabaseCpu | None) -> None:
        self.values: list[float] = []
        self._source = source
        self._over = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[Cpu]:
        connection = self._connection()  # here: asked from a second thread, Airflow may refuse the first one's question
        if connection is None or self._source is None:
            yield self
            return
        asked = (connection, f"/api/v1/query?{urlencode({'query': self._source.query})}")
        thread = threading.Thread(target=self._watch, args=asked, name="database-cpu", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join(2 * TIMEOUT_SECONDS)

    def measurements(self) -> tuple[Measurement, ...]:
        """The highest value and the last one: a spike that was brief is over by then."""
        if self._source is None:
            return ()
        highest, last = (max(self.values), self.values[-1]) if self.values else (None, None)
        seen = {"max_database_cpu": highest, "last_database_cpu": last}
        return tuple(Measurement(what=w, value=v, source=self._source.connection) for w, v in seen.items())

    def _connection(self) -> Connection | None:
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            return BaseHook.get_connection(self._source.connection) if self._source else None
        except AirflowNotFoundException as error:
            log.warning("the CPU of the database's machine is not known: %s", error)
            return None

    def _watch(self, connection: Connection, path: str) -> None:
        self._ask(connection, path)
        while not self._over.wait(INTERVAL_SECONDS):
            self._ask(connection, path)
        self._ask(connection, path)

    def _ask(self, connection: Connection, path: str) -> None:
        import requests

        try:
            self.values.append(busiest(decoded(request(connection, "GET", path, timeout=TIMEOUT_SECONDS).content)))
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            log.warning("the CPU of the database's machine is not known: %s", error)
