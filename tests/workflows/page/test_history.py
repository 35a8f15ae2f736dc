"""What was: deployments in pages, one with all of its evidence, its measurements thinned; texts stay texts."""

from __future__ import annotations

import pytest

from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.models.record import IncidentKind, Sample, SentMessage
from tests.record import made
from tests.record.made import RUN, START
from tests.workflows.page.conftest import NOBODY

HOSTILE = "<script>alert(1)</script>\" onerror='x' \u202e{{ var.value.x }} '; DROP TABLE deployments; --"
ONE = f"/plans/pms/deployments/{RUN}"
SECONDS = 7200


def several(count, **more):
    for n in range(count):
        run = f"manual__{n:04}"
        yield made.deployment(run, started_at=START + n * 1000, **more)
        if n % 3:
            yield made.outcome(Status.ROLLED_BACK if n % 3 == 2 else Status.SUCCEEDED, of=run, run=run)


def test_deployments_come_in_pages_the_newest_first(desk, recorded):
    recorded.ledger.write([*several(7), made.deployment("other", plan="other")])
    first, second = (desk.get(f"/plans/pms/deployments?limit=4&offset={n}").json() for n in (0, 4))
    assert (first["total"], [row["run"][-1] for row in first["rows"] + second["rows"]]) == (7, list("6543210"))
    said = {row["outcome"] for row in first["rows"]}
    assert said == {"has not ended", "was rolled back", "succeeded"}
    assert first["rows"][0]["report"] == "" and first["rows"][1]["report"].endswith("manual__0005.html")
    assert desk.get("/plans/pms/deployments?offset=99").json()["rows"] == []


def test_one_deployment_is_told_with_everything_but_its_measurements(desk, recorded):
    rollback = f"rollback__{RUN}"
    recorded.ledger.write([
        made.deployment(), made.check("phase_2.deploy.switch_traffic", at=60),
        made.check("phase_3.execute_migration", at=90),
        made.check("phase_3.data_integrity", Verdict.FAIL, at=120, reason="rows are gone", rows=3),
        made.check("move_traffic_back", at=125, run=rollback), made.decision("decide_2", why="all passed"),
        made.incident(IncidentKind.OPENED, 121), made.incident(IncidentKind.RESOLVED, 200),
        made.outcome(Status.ROLLED_BACK, run=rollback, switched=61),
        SentMessage(at=START, channel="slack #x", text="lost", problem="no such channel").of(RUN, RUN, "announce"),
        SentMessage(at=START, channel="e-mail", text="late", problem="timeout").of(RUN, RUN, "announce"),
        SentMessage(at=START + 9, channel="e-mail", text="late").of(RUN, "redelivery", "announce"),
    ])  # fmt: skip
    told = desk.get(ONE).json()
    assert [(one["kind"], one["at"] - START) for one in told["moments"]] == [
        ("switch", 61), ("migration", 90), ("back", 125), ("incident", 121), ("end", 300),
    ]  # fmt: skip
    assert [one["verdict"] for one in told["checks"]] == ["pass", "pass", "fail", "pass"]
    assert told["checks"][2]["measurements"][0]["value"] == 3
    (incident,) = told["incidents"]
    assert (incident["resolved_at"] - START, [line["kind"] for line in incident["lines"]]) == (
        200, ["opened", "resolved"],
    )  # fmt: skip
    assert (told["undelivered"], [one["arrived"] for one in told["messages"]]) == (1, [False, True, True])
    assert told["runs"] == [RUN, rollback]
    limits = {(one["name"], one["source"]): one["limit"] for one in told["measures"]}
    assert limits["error_rate", "pods"] == "above 0.001"
    assert limits["p50_seconds", "pods"].startswith("above 0.2 s, or 50% above the stable version (worse by less than")


@pytest.mark.parametrize("path", [ONE, f"{ONE}/measurements"])
def test_a_deployment_of_another_plan_is_none_of_this_one(desk, recorded, path):
    recorded.ledger.write([made.deployment(plan="other"), *made.samples(3)])
    answer = desk.get(path)
    assert (answer.status_code, answer.json()["part"]) == (404, "ledger")
    assert "knows no deployment" in answer.json()["detail"]


def test_hostile_texts_come_back_as_they_are_and_as_json(desk, recorded):
    recorded.ledger.write([
        made.deployment(version=HOSTILE, reason=HOSTILE, requested_by=HOSTILE),
        made.check("a.b", Verdict.FAIL, reason=HOSTILE), made.decision("decide", HOSTILE, HOSTILE, why=HOSTILE),
        made.said(HOSTILE),
    ])  # fmt: skip
    answer = desk.get(ONE)
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert {
        told["row"]["version"],
        told["row"]["reason"],
        told["checks"][0]["reason"],
        told["messages"][0]["text"],
    } == {HOSTILE}
    assert desk.get("/plans/pms/deployments").json()["rows"][0]["reason"] == HOSTILE
    assert desk.get(f"/plans/pms/deployments/{HOSTILE[:40]}").status_code == 404


def points(value, what="error_rate", source="pods", unit="", seconds=SECONDS):
    return [
        Sample(what=what, source=source, at=START + n, value=value(n), unit=unit).of(RUN, RUN, "watch")
        for n in range(seconds)
    ]  # fmt: skip


def test_measurements_are_thinned_and_no_peak_is_lost(desk, recorded):
    spike = points(lambda n: 1.0 if n == 3601 else 0.0) + points(lambda n: n / 7, "p99_seconds", "probe", "ms")
    recorded.ledger.write([made.deployment(), *spike])
    told = desk.get(f"{ONE}/measurements").json()
    errors, latency = told["series"]
    assert (told["seconds"], len(told["at"])) == (20, 360)
    assert all(len(one) == 360 for one in (errors["high"], errors["low"], latency["high"]))
    peak = errors["high"].index(1.0)
    assert told["at"][peak] <= START + 3601 < told["at"][peak] + 20
    assert (sum(errors["high"]), sum(errors["low"])) == (1.0, 0.0)
    assert (errors["above"], latency["above"], latency["unit"]) == (0.001, 1000, "ms")


def test_a_page_that_knows_some_asks_for_the_rest(desk, recorded):
    recorded.ledger.write([made.deployment(), *points(float)])
    whole = desk.get(f"{ONE}/measurements").json()
    more = desk.get(f"{ONE}/measurements?since={whole['at'][-3]}").json()
    assert more["at"] == whole["at"][-3:]
    assert more["series"][0]["high"] == whole["series"][0]["high"][-3:]
    assert desk.get(f"{ONE}/measurements?since={START + 99999}").json()["series"] == []


def test_what_was_not_measured_is_no_number(desk, recorded):
    early, late = points(float, seconds=30), points(lambda n: float("nan"), "cpu", "pods", seconds=60)
    recorded.ledger.write([made.deployment(), *early, *late])
    cpu, errors = desk.get(f"{ONE}/measurements").json()["series"]
    assert set(cpu["high"]) == {None}
    assert errors["high"][-1] is None and errors["high"][0] == 0
    assert desk.get("/plans/pms/deployments/none/measurements").status_code == 404


def test_a_deployment_that_measured_nothing_has_no_series(desk, recorded):
    recorded.ledger.write([made.deployment()])
    assert desk.get(f"{ONE}/measurements").json() == {"seconds": 0.25, "at": [], "series": []}


def test_a_ledger_that_is_away_is_said_and_takes_nothing_else_down(desk, recorded, monkeypatch):
    recorded.ledger.write([made.deployment(), made.check("a.b")])
    desk.deploy(deployment=RUN)
    before = desk.get("/plans/pms/now").json()
    assert (before["parts"]["ledger"]["answers"], before["deployment"]["last_step"]["name"]) == (True, "b")
    for reader in desk.inner.state.readers.values():
        reader._browser._database, reader.ledger._asked_at = NOBODY, None
    after = desk.get("/plans/pms/now").json()
    assert (after["parts"]["ledger"]["answers"], after["parts"]["cluster"]["answers"]) == (False, True)
    assert after["parts"]["ledger"]["at"] == before["parts"]["ledger"]["at"]
    assert "the ledger did not answer: connection" in after["parts"]["ledger"]["reason"]
    answer = desk.get(ONE)
    assert (answer.status_code, answer.json()["part"]) == (503, "ledger")
    assert answer.json()["last"] == before["parts"]["ledger"]["at"]
    numbers = desk.get("/plans/pms/numbers").json()
    assert (numbers["dora"], numbers["ledger"]["answers"], len(numbers["windows"]) >= 4) == (None, False, True)


def test_a_plan_that_records_nothing_says_so(desk, monkeypatch):
    desk.with_plan(desk.plan.model_copy(update={"record": None, "followups": None}))
    assert desk.get("/plans/pms/now").json()["parts"]["ledger"] is None
    answer = desk.get("/plans/pms/deployments")
    assert (answer.status_code, "record" in answer.json()["detail"]) == (404, True)
    assert desk.get("/plans/pms/numbers").json()["ledger"] is None


def test_the_ledger_is_only_read(recorded):
    import psycopg

    from handover.record.browse import SECONDS as LIMIT
    from handover.record.browse import Browser

    browser = Browser(recorded.owner, statement_seconds=LIMIT)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), browser.reading() as connection:
        connection.execute("CREATE TABLE mine (x int)")
    with browser.reading() as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("5s",)
    slow = Browser(recorded.writer, statement_seconds=0.01)
    with pytest.raises(psycopg.errors.QueryCanceled), slow.reading() as connection:
        connection.execute("SELECT pg_sleep(60)")
