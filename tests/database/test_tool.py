"""Migrations by a command of the release: the real Alembic, and what it writes, on real PostgreSQL; Jobs on a twin."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handover.adapters.postgres import Database
from handover.coordination import state as states
from handover.database.history import History
from handover.database.operators import DataIntegrity, Migrate, RollBackDatabase, SchemaCheck
from handover.models.deployment import MigrationRecord
from handover.plan.migration import MigrationTool
from handover.plan.model import Plan
from tests.database.conftest import connections, fill
from tests.support import steps
from tests.support.cluster import image, plan_with
from tests.support.postgres import Servers
from tests.twins.beside import cluster_in_memory
from tests.twins.kube import TwinCluster

IMAGE = image("v1.1.0")
UPGRADE, DOWNGRADE = ("alembic", "upgrade", "head"), ("alembic", "downgrade", "{to}")
ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
from alembic import op
revision, down_revision = "{name}", {before!r}
def upgrade(): op.execute("{up}")
def downgrade(): op.execute("{down}")
"""


class Release:
    """The image of a release that has Alembic with its revisions."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database = folder, None
        self.ran: list[list[str]] = []
        (folder / "versions").mkdir(parents=True)
        (folder / "alembic.ini").write_text(f"[alembic]\nscript_location = {folder}\n")
        (folder / "env.py").write_text(ENV)
        self._last: str | None = None
        self.revision("r1", "SELECT 1", "SELECT 1")

    def revision(self, name: str, up: str, down: str) -> None:
        text = REVISION.format(name=name, before=self._last, up=up, down=down)
        (self.folder / "versions" / f"{name}.py").write_text(text)
        self._last = name

    def __call__(self, _image: str, argv: list[str]) -> tuple[int, str]:
        self.ran.append(argv)
        found = self.database
        url = f"postgresql+psycopg://{found.user}:{found.password}@{found.host}:{found.port}/{found.name}"
        done = subprocess.run(
            [sys.executable, "-m", *argv], cwd=self.folder, env={**os.environ, "DATABASE_URL": url},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr)[-2000:]


@pytest.fixture
def inside(tmp_path: Path) -> Release:
    return Release(tmp_path / "release")


@pytest.fixture
def twin(inside: Release) -> Iterator[TwinCluster]:
    with cluster_in_memory(program=inside) as made:
        yield made


@pytest.fixture
def shop(tmp_path: Path) -> Plan:
    tool = {"command": list(UPGRADE), "undo_command": list(DOWNGRADE), "history": "alembic"}
    checks = dict.fromkeys(("schema_check", "integrity_checks", "critical_queries"))
    return plan_with(tmp_path, migration={"counted_tables": ["customers"], "path": None, "tool": tool, **checks})


@pytest.fixture
def database(replicated: Servers, inside: Release, monkeypatch: pytest.MonkeyPatch) -> Database:
    """As the release before left it: with the first revision."""
    found = replicated.copy("shop", "owner", fill)
    connections(monkeypatch, found, replicated)
    inside.database = found
    assert inside("", list(UPGRADE))[0] == 0
    inside.ran.clear()
    return found


class Deployment:
    """One that holds the lock."""

    def __init__(self, twin: TwinCluster, plan: Plan) -> None:
        self.twin, self.plan = twin, plan
        self.token = asyncio.run(steps.opened(twin.client(), plan.lock_name, IMAGE))
        self.release = steps.release(IMAGE).model_copy(update={"method": "tool"})

    def run(self, kind: Any, plan: Plan | None = None, **more: Any) -> Any:
        return steps.run(kind(task_id=kind.__name__.lower(), plan=plan or self.plan, **more), self.token, self.release)

    @property
    def migration(self) -> MigrationRecord:
        return asyncio.run(states.read(self.twin.client(), self.plan.lock_name)).migration

    def remember(self, **changes: Any) -> None:
        async def change() -> None:
            await states.update(
                self.twin.client(), self.plan.lock_name, self.token,
                lambda old: old.model_copy(update={"migration": old.migration.model_copy(update=changes)}),
            )  # fmt: skip

        asyncio.run(change())


@pytest.fixture
def deployment(twin: TwinCluster, shop: Plan, database: Database) -> Deployment:
    return Deployment(twin, shop)


def columns(database: Database) -> set[str]:
    with database.connect() as connection:
        rows = connection.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'customers'")
        return {row[0] for row in rows}


def revision(database: Database) -> str:
    with database.connect() as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


COLUMN = ("ALTER TABLE customers ADD COLUMN phone text", "ALTER TABLE customers DROP COLUMN phone")


def test_the_command_of_the_release_migrates_and_what_it_did_is_read_from_its_history(deployment, database, inside):
    inside.revision("r2", *COLUMN)
    assert deployment.run(SchemaCheck).evidence.passed
    ran = deployment.run(Migrate)
    assert ran.evidence.passed, ran.evidence.reason
    assert ran.evidence.reason == "applied r2"
    assert "phone" in columns(database)
    assert (deployment.migration.method, deployment.migration.applied, deployment.migration.known) == (
        "tool", ("r2",), ("r1",)
    )  # fmt: skip
    assert deployment.run(DataIntegrity).evidence.passed
    again = deployment.run(Migrate)
    assert again.evidence.passed
    assert deployment.migration.applied == ("r2",)


def test_nothing_pending_is_said(deployment):
    assert deployment.run(Migrate).evidence.reason == "nothing was pending"


def test_a_command_that_fails_is_told_with_its_words_and_leaves_nothing_to_undo(deployment, database, inside):
    inside.revision("r2", "ALTER TABLE nowhere ADD COLUMN phone text", "SELECT 1")
    ran = deployment.run(Migrate)
    assert not ran.evidence.passed
    assert "nowhere" in ran.evidence.reason
    assert deployment.migration.applied == ()
    undone = deployment.run(RollBackDatabase)
    assert undone.evidence.passed
    assert undone.evidence.reason == "keep: the migration left nothing behind"


@pytest.mark.parametrize(("compatible", "said", "stays"), [(True, "keep: ", True), (False, "reverse: ", False)])
def test_a_rollback_keeps_what_the_old_version_can_live_with_and_lets_the_tool_undo_the_rest(
    deployment, database, inside, compatible, said, stays
):
    inside.revision("r2", *COLUMN)
    deployment.run(Migrate)
    deployment.remember(compatible=compatible)
    undone = deployment.run(RollBackDatabase)
    assert undone.evidence.passed, undone.evidence.reason
    assert undone.evidence.reason.startswith(said)
    assert ("phone" in columns(database)) is stays
    assert revision(database) == ("r2" if stays else "r1")
    assert (["alembic", "downgrade", "r1"] in inside.ran) is not stays


def test_a_history_that_is_out_of_order_is_for_a_person(deployment, database, inside, monkeypatch):
    inside.revision("r2", *COLUMN)
    deployment.run(Migrate)
    deployment.remember(applied=(), compatible=True)
    monkeypatch.setattr("handover.database.tool.look", lambda _step: History(("r1",), ("r2 is dirty",)))
    undone = deployment.run(RollBackDatabase)
    assert not undone.evidence.passed
    assert undone.evidence.reason == "a person has to decide: r2 is dirty"


def test_an_undo_that_undoes_nothing_is_no_rollback(deployment, database, inside, shop):
    inside.revision("r2", *COLUMN)
    deployment.run(Migrate)
    deployment.remember(compatible=False)
    tool = shop.migration.tool.model_copy(update={"undo_command": ("alembic", "current")})
    idle = shop.model_copy(update={"migration": shop.migration.model_copy(update={"tool": tool})})
    undone = deployment.run(RollBackDatabase, idle)
    assert not undone.evidence.passed
    assert "alembic current has not undone them: its history is not what it was before" in undone.evidence.reason


def test_without_an_undo_command_a_person_decides(deployment, database, inside, shop):
    inside.revision("r2", *COLUMN)
    deployment.run(Migrate)
    deployment.remember(compatible=False)
    tool = shop.migration.tool.model_copy(update={"undo_command": None})
    without = shop.model_copy(update={"migration": shop.migration.model_copy(update={"tool": tool})})
    assert "a person has to decide: " in deployment.run(RollBackDatabase, without).evidence.reason


def test_a_tool_without_a_history_counts_as_one_migration_even_when_it_was_killed(twin, shop, database, inside):
    inside.revision("r2", *COLUMN)
    tool = MigrationTool(command=UPGRADE)
    blind = shop.model_copy(update={"migration": shop.migration.model_copy(update={"tool": tool})})
    deployment = Deployment(twin, blind)
    assert deployment.run(SchemaCheck).evidence.passed
    assert deployment.run(Migrate).evidence.reason == "applied alembic upgrade head"
    deployment.remember(compatible=None)
    assert "was never tested on the new schema" in deployment.run(RollBackDatabase).evidence.reason


def test_a_damaged_history_is_refused_before_anything_runs(deployment, database, inside):
    with database.connect() as connection:
        connection.execute("CREATE SCHEMA other")
        connection.execute("CREATE TABLE other.alembic_version (version_num text)")
    inside.ran.clear()
    for kind in (SchemaCheck, Migrate):
        reason = deployment.run(kind).evidence.reason
        assert "alembic_version is there 2 times (other.alembic_version, public.alembic_version)" in reason
    assert inside.ran == []
