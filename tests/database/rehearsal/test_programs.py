"""Programs of both versions on the copy: their tests on both schemas, and a release that migrates by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handover.adapters.postgres import Database
from handover.database import runner
from handover.database.rehearsal.by_release import PrismaTrial, ToolTrial
from handover.database.rehearsal.programs import Programs
from handover.database.rehearsal.trial import Trial
from handover.database.runner import StatementLimits
from handover.plan.model import Plan
from tests.database.conftest import bundle
from tests.support.cluster import image, plan_with
from tests.twins.beside import cluster_in_memory

OLD, NEW = image("v1.0.0"), image("v1.1.0")
SCRIPTS = {"m1": ("ALTER TABLE orders ADD COLUMN note text", "ALTER TABLE orders DROP COLUMN note")}
SMOKE = {"smoke": ["npm", "run", "db:check"]}


class Images:
    """What the programs of both images do: ``fails`` on which schema which image's test does; ``does``: by command."""

    def __init__(self, copy: Database) -> None:
        self.copy, self.aim = copy, copy.name
        self.ran: list[tuple[str, bool]] = []
        self.fails: set[tuple[str, bool]] = set()
        self.does: dict[str, Callable[[], object]] = {}

    def __call__(self, named: str, argv: list[str]) -> tuple[int, str]:
        if argv[0] == "sh":
            return 0, f"database={self.aim}\n"
        if argv[0] in self.does:
            self.does[argv[0]]()
            return 0, ""
        case = (named, self.migrated())
        self.ran.append(case)
        return (1, "guest Ada Lovelace is wrong") if case in self.fails else (0, "")

    def migrated(self) -> bool:
        asked = "SELECT FROM information_schema.columns WHERE table_name = 'orders' AND column_name = 'note'"
        with self.copy.connect() as connection:
            return connection.execute(asked).fetchone() is not None

    def sql(self, *statements: str) -> Callable[[], None]:
        def run() -> None:
            with self.copy.connect() as connection:
                for statement in statements:
                    connection.execute(statement.encode())

        return run


@pytest.fixture
def images(database: Database) -> Iterator[Images]:
    found = Images(database)
    with cluster_in_memory(program=found):
        yield found


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_with(tmp_path, rehearsal={"settings_secret": "pms-rehearsal", "application_tests": SMOKE})


def programs(plan: Plan, old: str = OLD) -> Programs:
    return Programs(plan, "a test", new=NEW, old=old)


def tried(plan: Plan, images: Images, scripts: dict[str, Any] = SCRIPTS, old: str = OLD) -> Trial:
    trial = Trial(plan, images.copy, bundle(**scripts), programs=programs(plan, old))
    trial.run()
    return trial


def test_old_and_new_version_are_tested_on_both_schemas(plan: Plan, images: Images) -> None:
    trial = tried(plan, images)
    assert trial.problems == []
    assert trial.left_out == []
    assert images.ran == [(OLD, False), (NEW, False), (OLD, True), (NEW, True)]


def test_a_test_that_fails_is_against_the_release_and_what_it_printed_is_told_nobody(
    plan: Plan, images: Images
) -> None:
    images.fails = {(OLD, True)}
    (problem,) = tried(plan, images).problems
    assert problem.startswith("smoke of the old version fails on the new schema: ")
    assert "Lovelace" not in problem


def test_a_new_version_that_never_meets_the_old_schema_is_not_tested_there(plan: Plan, images: Images) -> None:
    first = plan.model_copy(update={"migration": plan.database.model_copy(update={"before_cutover": True})})
    assert tried(first, images).problems == []
    assert (NEW, False) not in images.ran


def test_an_old_version_that_nobody_knows_is_no_pass(plan: Plan, images: Images) -> None:
    problems = tried(plan, images, old="").problems
    assert problems[0] == "nobody knows the image of the old version, which is to be tested on the old schema"


def test_without_a_way_back_the_old_version_has_to_run_on_the_new_schema(plan: Plan, images: Images) -> None:
    one_way = {"m1": SCRIPTS["m1"][0]}
    trial = tried(plan, images, one_way)
    assert trial.problems == []
    assert trial.left_out == ["the way back (m1 has no down.sql, and the old version runs on the new schema)"]


def test_settings_that_lead_elsewhere_are_refused_before_anything_runs(plan: Plan, images: Images) -> None:
    images.aim = "pms"
    trial = tried(plan, images)
    assert trial.problems == [f"DATABASE_URL of the Secret pms-rehearsal does not name the copy, {images.copy.name}"]
    assert (images.ran, trial.runs, images.migrated()) == ([], [], False)


def test_the_jobs_have_the_settings_of_the_rehearsal_and_nothing_of_productions(plan: Plan, database: Database) -> None:
    with cluster_in_memory(program=Images(database)) as twin:
        programs(plan).aimed_at(database.name)
        (job,) = twin.all_of("batch/v1/jobs", plan.cluster.namespace)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "pms-rehearsal"}}]
    assert str(plan.cluster.settings_secret) not in str(container)


# --- migrations of the release's own


def test_prisma_goes_forward_by_itself_and_our_reverse_takes_it_back(
    plan: Plan, images: Images, limits: StatementLimits
) -> None:
    release = bundle(**SCRIPTS)
    images.does["npx"] = lambda: runner.apply(images.copy, release, limits)
    trial = PrismaTrial(plan, images.copy, release, programs=programs(plan))
    trial.run()
    assert trial.problems == []
    assert [(run.name, run.way) for run in trial.runs] == [
        ("npx prisma migrate deploy", "forward"), ("m1", "reverse"), ("npx prisma migrate deploy", "forward again"),
    ]  # fmt: skip


def test_prisma_that_ends_well_and_has_applied_nothing_is_no_pass(plan: Plan, images: Images) -> None:
    images.does["npx"] = lambda: None
    trial = PrismaTrial(plan, images.copy, bundle(**SCRIPTS), programs=programs(plan))
    trial.run()
    assert trial.problems == ["m1 is not applied"]


@pytest.fixture
def by_tool(plan: Plan, images: Images) -> Plan:
    """A release that migrates by Alembic."""
    images.does["up"] = images.sql(
        "CREATE TABLE IF NOT EXISTS alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('a1')",
        "ALTER TABLE orders ADD COLUMN note text",
    )  # fmt: skip
    images.does["down"] = images.sql("DELETE FROM alembic_version", "ALTER TABLE orders DROP COLUMN note")
    tool = {"command": ("up",), "history": "alembic", "undo_command": ("down",)}
    migration = plan.database.model_dump() | {"path": None, "tool": tool}
    return plan.model_copy(update={"migration": type(plan.database).model_validate(migration)})


def test_a_tool_goes_forward_back_and_forward_again(by_tool: Plan, images: Images) -> None:
    trial = ToolTrial(by_tool, images.copy, bundle(), programs=programs(by_tool))
    trial.run()
    assert trial.problems == []
    assert [run.way for run in trial.runs] == ["forward", "reverse", "forward again"]


def test_a_tool_that_does_not_undo_what_it_did_is_refused(by_tool: Plan, images: Images) -> None:
    images.does["down"] = images.sql("DELETE FROM alembic_version")
    trial = ToolTrial(by_tool, images.copy, bundle(), programs=programs(by_tool))
    trial.run()
    (problem,) = trial.problems
    assert problem.startswith("the reverse does not bring back what was there before: TABLE public.orders is another")
