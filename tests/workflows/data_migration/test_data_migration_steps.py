"""A whole data migration as Airflow's steps do it: a real schema, primary and replica, the lock of a twin."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from handover.adapters.postgres import Database
from handover.coordination import lock
from handover.evidence_seal import leave
from handover.models.record import DECISION_KEY, Decision
from handover.plan.model import Plan
from handover.workflows.data_migration.steps import (
    CUT_OVER,
    Backfill,
    CheckMigrations,
    Compare,
    Control,
    CutOver,
    Expand,
)
from sandbox.hotel import migrations
from sandbox.hotel.releases import BASE, CHANNEL, NIGHTS
from tests.support import steps
from tests.support.postgres import PASSWORD, Servers
from tests.support.steps import Opening

pytestmark = pytest.mark.sandbox
FILL = """
INSERT INTO users (email, full_name, password_hash) VALUES ('a@example.com', 'A', 'x');
INSERT INTO rooms (number, floor, room_type, price_per_night) VALUES ('1', 1, 'single', 50);
INSERT INTO bookings (user_id, room_id, check_in, check_out, total_amount)
SELECT 1, 1, date '2026-01-01' + n % 300, date '2026-01-01' + n % 300 + 1 + n % 9, 100 FROM generate_series(1, 3000) n;
ANALYZE bookings;
"""


@pytest.fixture
def stays(replicated: Servers, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection[Any]:
    def fill(there: Database) -> None:
        with there.connect() as connection:
            migrations.apply(connection, (*BASE, CHANNEL))
            connection.execute(FILL.encode())

    there = replicated.copy("stays", "owner", fill)
    common = {"conn_type": "postgres", "login": "owner", "password": PASSWORD, "port": there.port}
    steps.connect_to(monkeypatch, "pms_primary", **common, host=there.host, schema=there.name)
    steps.connect_to(monkeypatch, "pms_replica", **common, host=replicated.replica.host, schema="postgres")
    return there.connect()


@pytest.fixture
def calm(plan: Plan) -> Plan:
    """Nothing of it depends on how busy this machine is."""
    assert plan.data_migrations is not None
    rules = plan.data_migrations.model_copy(
        update={"max_lag_seconds": 600.0, "max_wait_seconds": 600.0, "low_traffic": None, "keep_seconds": 1e-6}
    )
    return plan.model_copy(update={"data_migrations": rules})


class Ti:
    """``answer``: what the question before it has left."""

    def __init__(self, answer: str = "") -> None:
        self.pushed, question = dict[str, Any](), Opening(task_id="ask")
        if answer:
            said = Decision(at=1.0, question="Cut over?", choice=answer, who="Dana")
            leave(question, DECISION_KEY, said.model_dump(mode="json"))
        self.left = question.pushed

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.left.get(key)


def ran(step: Any, answer: str = "", **params: str) -> tuple[bool, str]:
    ti = Ti(answer)
    try:
        step.execute({"run_id": "run", "ti": ti, "params": params})
    except AirflowFailException:
        return False, ti.pushed["evidence"]["reason"]
    return True, ti.pushed["evidence"]["reason"]


def step(kind: type, plan: Plan, **more: Any) -> Any:
    return kind(task_id="step", plan=plan, **more)


def control(plan: Plan, action: str) -> tuple[bool, str]:
    return ran(step(Control, plan), table="nights", action=action)


@pytest.mark.usefixtures("twin")
@pytest.mark.plan("Data gradually migrated in background", "Cutover happens during low-traffic window")
def test_a_column_is_expanded_filled_compared_cut_over_and_contracted(
    calm: Plan, stays: psycopg.Connection[Any]
) -> None:
    passed, why = ran(step(CheckMigrations, calm))
    assert not passed
    assert "nothing was touched: pms_nights (bookings): there is no column nights: a migration of the release" in why
    migrations.apply(stays, (*BASE, CHANNEL, NIGHTS))

    assert ran(step(CheckMigrations, calm)) == (True, "nights: bookings by booking_id, ranges of it")
    assert ran(step(Expand, calm)) == (True, "filled by whoever writes: bookings: nights")
    stays.execute("INSERT INTO bookings (user_id, room_id, check_in, check_out, total_amount)"
                  " VALUES (1, 1, '2026-02-01', '2026-02-05', 1)")  # fmt: skip
    assert not ran(step(Compare, calm, move="nights"))[0]
    early = ran(step(CutOver, calm, asked_by="ask"), CUT_OVER)
    assert not early[0]
    assert early[1].startswith("by now 3000 rows of bookings are not what the expressions say: clear the backfill")

    passed, why = ran(step(Backfill, calm, move="nights"))
    assert (passed, why.partition(" in ")[0]) == (True, "nights: 3000 rows filled")
    assert ran(step(Compare, calm, move="nights")) == (True, "nights: no row of bookings differs")
    asked = step(CutOver, calm, asked_by="ask")
    assert ran(asked, "Not now")[1].startswith("nothing is cut over: nobody has said so")
    forged = Ti("Not now")
    forged.left[DECISION_KEY]["choice"] = CUT_OVER
    with pytest.raises(AirflowFailException, match="decision of ask was not made by its step"):
        asked.execute({"run_id": "run", "ti": forged, "params": {}})
    assert ran(asked, CUT_OVER)[1].endswith(": bookings: nights")
    assert stays.execute(
        "SELECT count(*) FROM bookings WHERE nights IS DISTINCT FROM check_out - check_in"
    ).fetchone() == (0,)
    with pytest.raises(psycopg.errors.NotNullViolation):
        stays.execute("ALTER TABLE bookings DISABLE TRIGGER USER; UPDATE bookings SET nights = NULL")

    assert ran(step(Backfill, calm, move="nights"))[0]  # run again it finds everything done
    assert control(calm, "contract")[0]
    assert stays.execute("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").fetchone() == (0,)


@pytest.mark.usefixtures("twin")
def test_people_pause_it_let_it_go_on_and_give_it_up(calm: Plan, stays: psycopg.Connection[Any]) -> None:
    assert control(calm, "pause") == (False, "nights never began")
    migrations.apply(stays, (*BASE, CHANNEL, NIGHTS))
    ran(step(Expand, calm))
    assert control(calm, "pause")[0]
    with pytest.raises(TaskDeferred) as waits:
        ran(step(Backfill, calm, move="nights"))
    assert waits.value.method_name == "resumed"
    assert control(calm, "go on") == (True, "nights goes on")
    backfill, ti = step(Backfill, calm, move="nights"), Ti()
    backfill.resumed({"run_id": "run", "ti": ti, "params": {}}, None)
    assert ti.pushed["evidence"]["verdict"] == "pass"
    assert control(calm, "contract") == (False, "pms_nights is filled: it was never cut over")
    assert control(calm, "abort")[0]
    assert control(calm, "drop everything")[1].startswith("action: 'drop everything' is none of")
    assert ran(step(Control, calm), table="rooms", action="pause")[1] == "table: 'rooms' is none of nights"


def test_it_holds_while_somebody_deploys(
    calm: Plan, stays: psycopg.Connection[Any], in_cluster: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handover.database.backfill.runner.HELD_SECONDS", 0.0)
    migrations.apply(stays, (*BASE, CHANNEL, NIGHTS))
    ran(step(Expand, calm))
    in_cluster(lambda kube: lock.acquire(kube, calm.lock_name, "run-1", "Friday's fix"))
    with pytest.raises(TaskDeferred):
        ran(step(Backfill, calm, move="nights"))
    assert stays.execute("SELECT count(nights) FROM bookings").fetchone() == (0,)
    assert control(calm, "abort")[1].startswith("nothing was changed: run-1 since ")
    in_cluster(lambda kube: lock.release(kube, calm.lock_name, 1))
    assert ran(step(Backfill, calm, move="nights"))[0]


@pytest.mark.usefixtures("twin")
def test_a_replica_that_is_none_is_named(
    calm: Plan, stays: psycopg.Connection[Any], replicated: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.apply(stays, (*BASE, CHANNEL, NIGHTS))
    steps.connect_to(
        monkeypatch, "pms_replica", conn_type="postgres", login="owner", password=PASSWORD,
        port=replicated.primary.port, host=replicated.primary.host, schema="postgres",
    )  # fmt: skip
    assert ran(step(CheckMigrations, calm)) == (
        False, "nothing was touched: migration.replica_connections: pms_replica is no replica",
    )  # fmt: skip


@pytest.mark.usefixtures("twin")
def test_a_replica_of_another_cluster_is_named(
    calm: Plan, stays: psycopg.Connection[Any], servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = servers.new("owner")
    with other.connect() as connection:
        migrations.apply(connection, (*BASE, CHANNEL, NIGHTS))
    steps.connect_to(
        monkeypatch, "pms_primary", conn_type="postgres", login="owner", password=PASSWORD, port=other.port,
        host=other.host, schema=other.name,
    )  # fmt: skip
    assert ran(step(CheckMigrations, calm)) == (
        False, "nothing was touched: migration.replica_connections: pms_replica is a replica of another cluster",
    )  # fmt: skip
    servers.ask(servers.primary.named(other.name), "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    assert "may be of another cluster: owner may not call pg_control_system()" in ran(step(CheckMigrations, calm))[1]
