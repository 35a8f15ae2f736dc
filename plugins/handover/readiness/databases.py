"""What databases say: migrations on staging, and how far production's WAL is archived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from handover.models.evidence import Evidence, failed, passed, unknown
from handover.plan.parts import ConnectionId
from handover.readiness.check import CheckKind, NoAnswer, Scope
from handover.readiness.github import migrations_of

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.plan.model import Plan

CONNECT_SECONDS = 5
_MIGRATIONS = """
SELECT migration_name, finished_at IS NOT NULL AND rolled_back_at IS NULL, rolled_back_at IS NOT NULL
FROM public._prisma_migrations
"""
_ARCHIVED = """
SELECT current_setting('archive_mode') <> 'off', extract(epoch FROM last_archived_time)::float8,
       coalesce(last_failed_time > last_archived_time, false)
FROM pg_stat_archiver
"""


@contextmanager
def session(connection_id: str, plan: Plan) -> Iterator[Connection[Any]]:
    """A session that may only read. Raises `NoAnswer`, also where anybody on the way could answer for the database."""
    import psycopg

    from handover.adapters.postgres import database

    where = database(connection_id)
    if where.unverified and connection_id not in plan.transport.unverified:
        raise NoAnswer(f"{connection_id} is not asked: {where.unverified} takes whoever answers for the database")
    try:
        with where.connect(wait_seconds=CONNECT_SECONDS) as connection:
            connection.execute("SET default_transaction_read_only = on")
            connection.execute("SET statement_timeout = '10s'")
            yield connection
    except psycopg.Error as error:
        raise NoAnswer(f"{connection_id}: {type(error).__name__} {error.sqlstate or ''}".strip()) from None


@dataclass(frozen=True)
class AppliedOnStaging:
    """Names of migrations: in place now, and rolled back at least once."""

    now: frozenset[str]
    rolled_back: frozenset[str]


def applied(connection_id: str, plan: Plan) -> AppliedOnStaging:
    with session(connection_id, plan) as connection:
        rows = connection.execute(_MIGRATIONS).fetchall()
    return AppliedOnStaging(frozenset(n for n, is_, _ in rows if is_), frozenset(n for n, _, was in rows if was))


def last_archived(connection_id: str, plan: Plan) -> float | None:
    """When the primary last archived WAL (seconds since the epoch); None when it archives none or the last try failed.

    Raises `NoAnswer`.
    """
    with session(connection_id, plan) as connection:
        row = connection.execute(_ARCHIVED).fetchone()
    return row[1] if row and row[0] and not row[2] else None


class StagingCheck(CheckKind):
    """What these checks share: the release's migrations, those that production does not have yet, and staging's."""

    github: ConnectionId
    repository: str
    path: str
    staging: ConnectionId
    production: ConnectionId

    def look(self, scope: Scope) -> Evidence:
        release = migrations_of(self.github, self.repository, self.path, scope.subject.version)
        return self.judge(release, applied(self.production, scope.plan), applied(self.staging, scope.plan))

    def judge(self, release: Sequence[str], production: AppliedOnStaging, staging: AppliedOnStaging) -> Evidence:
        raise NotImplementedError


class MigrationsOnStaging(StagingCheck):
    """Every migration of the release is in place on staging."""

    kind: Literal["migrations_on_staging"]

    def judge(self, release: Sequence[str], production: AppliedOnStaging, staging: AppliedOnStaging) -> Evidence:
        if missing := [name for name in release if name not in staging.now]:
            return failed(self.kind, f"not applied on staging: {', '.join(missing)}")
        return passed(self.kind, f"all {len(release)} migrations are applied on staging")


class RollbackTested(StagingCheck):
    """Every migration that is new to production was rolled back on staging once, and is in place there again."""

    kind: Literal["rollback_tested"]

    def judge(self, release: Sequence[str], production: AppliedOnStaging, staging: AppliedOnStaging) -> Evidence:
        new = [name for name in release if name not in production.now]
        if untried := [name for name in new if name not in staging.rolled_back]:
            return failed(self.kind, f"never rolled back on staging: {', '.join(untried)}")
        if gone := [name for name in new if name not in staging.now]:
            return unknown(self.kind, f"rolled back on staging but not applied again: {', '.join(gone)}")
        return passed(self.kind, f"rolled back and applied again on staging: {', '.join(new) or 'nothing is new'}")
