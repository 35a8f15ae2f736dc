"""Reads the record and the report of a run on the sandbox, and takes the ledger away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg

from handover.adapters.postgres import Database
from handover.record.ledger import Ledger, NotRecorded, Record
from sandbox.services.aws import REPORTS, client
from sandbox.services.databases import RECORD

FRAME = {"ReleaseDue", "GiveUp", "Decide", "RollBack", "Remind", "PublishEnd", "EmptyOperator"}


def back_on_the_old_version(production: Any, guests: Any, outcome: Any) -> None:
    """What every rollback has to leave behind."""
    assert outcome.outcome == "rolled_back", outcome
    assert production.serving() == "v1.0.0"
    state = production.state()
    assert state["status"] == "rolled_back"
    assert not production.lock_holder()
    assert production.replicas(state["preview"]) == 0
    assert production.replicas(state["stable"]) == 2
    assert guests.report()["failed"] == 0


def applied_migrations(primary: psycopg.Connection[Any]) -> list[str]:
    query = "SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL"
    return sorted(name for (name,) in primary.execute(query).fetchall())


def ledger(endpoints: dict[str, Any]) -> Ledger:
    return Ledger(Database.from_uri(endpoints["postgres"]["record"]))


def read(endpoints: dict[str, Any], deployment: str, last_step: str = "", seconds: float = 20) -> Record:
    """The record, once the last step's own entry is there, which is written after Airflow knows that it ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(NotRecorded):
            found = ledger(endpoints).read(deployment)
            if not last_step or any(c.step == last_step and c.verdict == "pass" for c in found.checks):
                return found
        time.sleep(0.5)
    return ledger(endpoints).read(deployment)


def hears(endpoints: dict[str, Any], deployment: str, text: str, seconds: float = 30) -> bool:
    """Whether the record comes to have a message with this text that was delivered; it is written after Airflow knows
    that its task has ended.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(text in m.text and m.delivered for m in ledger(endpoints).read(deployment).messages):
            return True
        time.sleep(0.5)
    return False


def steps_of(team: Any, dag_id: str, run_id: str) -> dict[str, str]:
    """Steps that ran, as Airflow has them: task id to state."""
    return {
        t["task_id"]: t["state"]
        for t in team.admin.task_instances(dag_id, run_id)
        if t["state"] in ("success", "failed") and t["operator_name"] not in FRAME
    }


def rows(endpoints: dict[str, Any], table: str, run: str, *columns: str) -> list[tuple[Any, ...]]:
    """Of a run that is no deployment, such as the announcements before one; oldest first."""
    with psycopg.connect(endpoints["postgres"]["record"]) as connection:
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE run = %s ORDER BY at"
        return connection.execute(query.encode(), (run,)).fetchall()


def tickets(recorded: Any) -> list[dict[str, Any]]:
    """The fields of those that were opened, oldest first."""
    return [call["body"]["fields"] for call in recorded("jira") if call["path"].endswith("/issue")]


def stored(sandbox: Any, run_id: str, ending: str) -> str:
    """The report as it lies in S3."""
    key = f"production/{run_id}.{ending}"
    return client(sandbox.settings, "s3").get_object(Bucket=REPORTS, Key=key)["Body"].read().decode()


def secrets_of(endpoints: dict[str, Any]) -> list[str]:
    """Everything in endpoints.json that nobody else may know."""
    passwords = [urlsplit(dsn).password for dsn in endpoints["postgres"].values()]
    users = [user["password"] for user in endpoints["airflow"]["users"].values()]
    hotel = [value for name, value in endpoints["hotel"].items() if name != "test_email"]
    return [
        str(secret)
        for secret in (*passwords, *users, *hotel, endpoints["airflow"]["password"], endpoints["kubernetes"]["token"])
        if secret
    ]


def said_by(record: Record) -> str:
    """The whole record as one text."""
    return repr(vars(record))


@contextmanager
def silent(endpoints: dict[str, Any], *channels: str) -> Iterator[None]:
    """These answer with 503."""
    answers = f"{endpoints['recorder']}/answers"
    try:
        for channel in channels:
            httpx.put(f"{answers}/{channel}", json={"status": 503, "body": {}}, trust_env=False).raise_for_status()
        yield
    finally:
        for channel in channels:
            httpx.delete(f"{answers}/{channel}", trust_env=False)


@contextmanager
def away(endpoints: dict[str, Any]) -> Iterator[None]:
    """Nobody gets into the ledger's database."""
    with psycopg.connect(endpoints["postgres"]["metadata"], autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {RECORD} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (RECORD,))
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {RECORD} ALLOW_CONNECTIONS true".encode())
