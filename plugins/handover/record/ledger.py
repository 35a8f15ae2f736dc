"""Writes entries to the ledger and reads them back. Writing something twice is writing it once."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from handover.models.record import (
    Change,
    Check,
    Decision,
    Deployment,
    IncidentEntry,
    Outcome,
    RecordEntry,
    Sample,
    SentMessage,
)
from handover.models.redaction import cleaned
from handover.record.contradictions import KEYS, TIMES, contradictions

if TYPE_CHECKING:
    import asyncpg
    from psycopg import Connection

    from handover.adapters.postgres import Database

TABLES: dict[type[RecordEntry], str] = {
    Deployment: "deployments",
    Outcome: "outcomes",
    Check: "checks",
    Decision: "decisions",
    SentMessage: "messages",
    IncidentEntry: "incidents",
    Sample: "measurements",
    Change: "changes",
}
"""Each field of an entry is the column of the same name."""
log = logging.getLogger(__name__)
WAIT_SECONDS = 2
"""The shortest time that psycopg waits for a connection."""
STATEMENT_SECONDS = 10.0
E_ = TypeVar("E_", bound=RecordEntry)


class NotRecorded(LookupError):
    """The ledger knows no such deployment."""


@dataclass(frozen=True)
class Record:
    """All that the ledger has about one deployment, each kind in the order of time. ``readiness``: the checks of the
    readiness that it rests on.
    """

    deployment: Deployment
    outcomes: tuple[Outcome, ...] = ()
    checks: tuple[Check, ...] = ()
    decisions: tuple[Decision, ...] = ()
    messages: tuple[SentMessage, ...] = ()
    incidents: tuple[IncidentEntry, ...] = ()
    samples: tuple[Sample, ...] = ()
    changes: tuple[Change, ...] = ()
    readiness: tuple[Check, ...] = ()


class Ledger:
    """Every call is a session of its own and raises `psycopg.Error` when the ledger is away."""

    def __init__(
        self, database: Database, wait_seconds: int = WAIT_SECONDS, statement_seconds: float = STATEMENT_SECONDS
    ) -> None:
        self._database, self._wait, self._statement = database, wait_seconds, statement_seconds

    def write(self, entries: Iterable[RecordEntry]) -> int:
        """All or nothing; gives how many entries were new. The first one of a name stays; one that says something else
        is put on record as its contradiction (`handover.record.contradictions`).
        """
        new, entries = 0, list(entries)
        with self._database.connect(autocommit=False, wait_seconds=self._wait) as connection:
            connection.execute(f"SET LOCAL statement_timeout = '{self._statement:g}s'".encode())
            for kind, group in _by_kind(entries):
                with connection.cursor() as cursor:
                    cursor.executemany(_insert(kind, "%s").encode(), [_values(entry) for entry in group])
                    new += max(0, cursor.rowcount)
            if new < len(entries):
                self._contradict(connection, entries)
        return new

    def _contradict(self, connection: Connection[Any], said: Sequence[RecordEntry]) -> None:
        clean = [_entry(type(entry), _values(entry, packed=False)) for entry in said if type(entry) in KEYS]
        owners = list({entry.deployment for entry in clean})
        kept: list[RecordEntry] = []
        for kind in {type(entry) for entry in clean}:
            kept += [_entry(kind, row) for row in connection.execute(_select(kind).encode(), (owners,))]
        for found in contradictions(kept, clean):
            log.error("%s of %s: %s: %s", found.step, found.deployment, found.question, found.why)
            connection.execute(_insert(Decision, "%s").encode(), _values(found))

    def read(self, deployment: str) -> Record:
        """Raises `NotRecorded`."""
        return self.read_all([deployment])[0]

    def read_all(
        self, deployments: Sequence[str], *, samples: bool = True, only: Collection[type[RecordEntry]] = tuple(TABLES)
    ) -> list[Record]:
        """In the order of the ids that were given. Raises `NotRecorded`.

        :param only: kinds of entries beside which the rest is left out
        """
        kinds = [kind for kind in TABLES if (samples or kind is not Sample) and (kind in only or kind is Deployment)]
        with self.reading() as connection:

            def entries(kind: type[E_], owners: Sequence[str]) -> list[E_]:
                return [_entry(kind, row) for row in connection.execute(_select(kind).encode(), (list(owners),))]

            found: dict[type[RecordEntry], list[Any]] = {kind: [] for kind in TABLES}
            found |= {kind: entries(kind, deployments) for kind in kinds}
            rests_on = [opened.readiness for opened in found[Deployment] if opened.readiness and Check in only]
            behind = entries(Check, rests_on)
        return [_record(found, behind, name) for name in deployments]

    def deployments(self, since: float = 0.0, plan: str = "") -> list[str]:
        """Ids of the deployments that were opened after this time, oldest first."""
        query = (
            "SELECT deployment FROM deployments WHERE started_at >= to_timestamp(%s) AND %s IN ('', plan) "
            "ORDER BY started_at"
        )
        with self.reading() as connection:
            return [row[0] for row in connection.execute(query, (since, plan))]

    @contextmanager
    def reading(self) -> Iterator[Connection[Any]]:
        """A session in which nothing is written."""
        with self._database.connect(autocommit=False, wait_seconds=self._wait) as connection:
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute(f"SET LOCAL statement_timeout = '{self._statement:g}s'".encode())
            yield connection


async def write_samples(connection: asyncpg.Connection, samples: Sequence[Sample]) -> None:
    """The same for triggers, on a session of theirs."""
    await connection.executemany(_insert(Sample, "${}"), [_values(sample) for sample in samples])


def _by_kind(entries: Iterable[RecordEntry]) -> Iterable[tuple[type[RecordEntry], list[RecordEntry]]]:
    order = list(TABLES)
    ordered = sorted(entries, key=lambda entry: order.index(type(entry)))
    return ((kind, list(group)) for kind, group in groupby(ordered, key=type))


@cache
def _insert(kind: type[RecordEntry], mark: str) -> str:
    columns = list(kind.model_fields)
    marks = [mark.format(n) for n in range(1, len(columns) + 1)]
    values = [f"to_timestamp({m})" if c in TIMES else m for c, m in zip(columns, marks, strict=True)]
    return f"INSERT INTO {TABLES[kind]} ({', '.join(columns)}) VALUES ({', '.join(values)}) ON CONFLICT DO NOTHING"  # noqa: S608 - names of ours


@cache
def _select(kind: type[RecordEntry]) -> str:
    wanted = [f"extract(epoch FROM {c})::float8" if c in TIMES else c for c in kind.model_fields]
    order = "at" if "at" in kind.model_fields else next(c for c in kind.model_fields if c in TIMES)
    return f"SELECT {', '.join(wanted)} FROM {TABLES[kind]} WHERE deployment = ANY(%s) ORDER BY {order}, recorded_at"  # noqa: S608 - names of ours


def _values(entry: RecordEntry, *, packed: bool = True) -> list[Any]:
    """As they are kept. ``packed``: lists as JSON, as PostgreSQL is given them."""
    found = [cleaned(value) for value in entry.model_dump(mode="json").values()]
    return [json.dumps(value) if packed and isinstance(value, list) else value for value in found]


def _entry(kind: type[E_], row: Sequence[Any]) -> E_:
    return kind.model_validate(dict(zip(kind.model_fields, row, strict=True)))


def _record(found: dict[type[RecordEntry], list[Any]], behind: Sequence[Check], deployment: str) -> Record:
    mine = {kind: tuple(e for e in entries if e.deployment == deployment) for kind, entries in found.items()}
    if not mine[Deployment]:
        raise NotRecorded(f"the ledger knows no deployment {deployment}")
    opened = mine[Deployment][0]
    return Record(
        opened, mine[Outcome], mine[Check], mine[Decision], mine[SentMessage], mine[IncidentEntry], mine[Sample],
        mine[Change], tuple(one for one in behind if one.deployment == opened.readiness),
    )  # fmt: skip


def ledger(connection_id: str) -> Ledger:
    """The ledger behind an Airflow connection."""
    from handover.adapters.postgres import database

    return Ledger(database(connection_id))
