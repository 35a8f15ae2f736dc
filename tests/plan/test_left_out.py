"""A service without a database, an error tracker, a staging, a status page ...: its plan is shorter, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from handover.models import names
from handover.plan.load import PlanError, load_plan
from handover.plan.measures import measures_of
from handover.plan.model import Plan
from handover.plan.parts import INCLUDE, PLANS_VARIABLE, LeftOut, included
from tests.support.plans import bare, without


def loaded(folder: Path, data: Any) -> Plan:
    (folder / "web.yaml").write_text(yaml.safe_dump(data))
    return load_plan(folder / "web.yaml")


def test_the_shortest_plan_is_judged_by_pods_and_probes_alone(tmp_path):
    plan = loaded(tmp_path, bare())
    assert {one.source for one in measures_of(plan)} == {names.PODS, names.PROBE}
    assert plan.connections == (
        "pms_registry", "pms_kubernetes", "pms_api", "pms_preview", "pms_airflow"
    )  # fmt: skip
    for part in ("database", "backups", "recorded"):
        with pytest.raises(LeftOut, match="left out: the plan has no "):
            getattr(plan, part)


@pytest.mark.parametrize(("key", "said"), [
    ("backup", "migration without backup"), ("migration", "backup without migration"),
    ("messages.status_page_url", "status_page_connection, status_page_path without status_page_url"),
    ("messages.incidents_channel", "slack_connection, deployments_channel without incidents_channel"),
    ("record", "followups without record"),
    ("messages.email_from", "email_connection without email_from"),
    ("messages.email", "stakeholders and users are told by e-mail"),
    ("messages.ticket_project", "without ticket_project"),
    ("health.error_tracker_path", "error_tracker_connection without error_tracker_path"),
])  # fmt: skip
def test_half_a_section_is_refused(tmp_path, key, said):
    with pytest.raises(PlanError, match=said):
        loaded(tmp_path, without(key))


@pytest.mark.parametrize(("changes", "said"), [
    ({"bucket": "reports"}, "record.bucket without record.bucket_connection"),
    ({"bucket_connection": "reports_s3"}, "record.bucket_connection without record.bucket"),
])  # fmt: skip
def test_reports_need_a_bucket_and_a_way_to_it(tmp_path, changes, said):
    data = without("record.bucket")
    record = data["record"] | changes
    with pytest.raises(PlanError, match=said):
        loaded(tmp_path, bare() | {"record": record})
    whole = {"bucket": "reports", "bucket_connection": "reports_s3"}
    assert loaded(tmp_path, bare() | {"record": record | whole}).recorded.bucket == "reports"


def test_without_replicas_there_is_no_lag_to_judge(tmp_path):
    plan = loaded(tmp_path, without("migration.replica_connections"))
    assert {one.name for one in measures_of(plan) if one.source == names.DATABASE} == {names.CONNECTIONS}


def test_a_measure_of_what_was_left_out_is_refused(tmp_path):
    data = bare() | {"measures": [{"name": "replication_lag_seconds", "source": "database", "limit": {"above": 1}}]}
    with pytest.raises(PlanError, match="the plan has no migration, which says where the database is"):
        loaded(tmp_path, data)


def test_an_overlay_changes_what_a_plan_has_and_adds_nothing(tmp_path):
    (tmp_path / "overlay.yaml").write_text("migration: {lag_timeout_seconds: 5}\nwatch: {no_data_seconds: 7}\n")
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(bare()))
    plan = load_plan(tmp_path / "web.yaml", tmp_path / "overlay.yaml")
    assert (plan.migration, plan.watch.no_data_seconds) == (None, 7)
    (tmp_path / "overlay.yaml").write_text("watches: {no_data_seconds: 7}\n")
    with pytest.raises(PlanError, match="watches"):
        load_plan(tmp_path / "web.yaml", tmp_path / "overlay.yaml")


def test_what_a_plan_names_may_lie_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "plans"
    folder.mkdir()
    (tmp_path / "k8s").mkdir()
    made = (INCLUDE / "k8s" / "deployment.yaml").read_text() + "# ours\n"
    (tmp_path / "k8s" / "web.yaml").write_text(made)
    data = bare()
    data["cluster"]["manifest"] = "web.yaml"
    with pytest.raises(PlanError, match="no such file"):
        loaded(folder, data)
    monkeypatch.setenv(PLANS_VARIABLE, str(folder))
    assert included("k8s", loaded(folder, data).cluster.manifest).read_text() == made
    assert included("k8s", "rbac.yaml") == INCLUDE / "k8s" / "rbac.yaml"
