"""The release of an image rehearsed where people ask for it: as a line of the readiness, and by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from pyrage.x25519 import Identity

from handover.__main__ import main
from handover.adapters.postgres import Database
from handover.database import storage
from handover.database.dump import dump_to_s3
from handover.evidence_seal import leave
from handover.models.evidence import Evidence, Verdict
from handover.models.readiness import Subject
from handover.plan.load import OVERLAY_VARIABLE
from handover.plan.model import Plan
from handover.readiness.operators import SUBJECT_KEY
from handover.step import EVIDENCE_KEY
from handover.workflows.readiness.checks import RehearseRelease
from tests.database.conftest import fill
from tests.database.test_release_jobs import Release, packed
from tests.support.cluster import REPOSITORY, digest, plan_with
from tests.support.postgres import PASSWORD, Servers
from tests.support.registry import Registry, registry  # noqa: F401 - a fixture
from tests.support.steps import Opening, connect_to
from tests.support.task import Ti, context_of
from tests.twins.beside import cluster_in_memory

SUBJECT = Subject(version="v1.1.0", image=f"{REPOSITORY}:v1.1.0", digest=digest("v1.1.0"), previous="v1.0.0")


@pytest.fixture
def inside() -> Iterator[Release]:
    """The programs of the release's image, on a twin of the cluster."""
    found = Release()
    found.prints = [
        (0, packed(**{"20260101_a": ("ALTER TABLE orders ADD COLUMN note text", "ALTER TABLE orders DROP note")}))
    ]
    with cluster_in_memory(program=found):
        yield found


@pytest.fixture
def plan(
    servers: Servers, replicated: Servers, s3: Any, s3_endpoint: str, tmp_path: Path, inside: Release,
    monkeypatch: pytest.MonkeyPatch,
) -> Plan:  # fmt: skip
    """A plan whose connections are real, and a verified backup of its shop."""
    shop = servers.template("shop", "owner", fill)
    common = {"conn_type": "postgres", "login": "owner", "password": PASSWORD, "port": shop.port}
    connect_to(monkeypatch, "pms_primary", **common, host=shop.host, schema=shop.name)
    connect_to(monkeypatch, "pms_restore", **common, host=replicated.primary.host, schema="postgres")
    extra = {"endpoint_url": s3_endpoint, "region_name": "eu-central-1"}
    connect_to(monkeypatch, "pms_aws", conn_type="aws", login="test", password="test", extra=extra)
    connect_to(monkeypatch, "pms_backup_key", conn_type="generic", password=str(Identity.generate()))
    _backed_up(shop, s3)
    return plan_with(
        tmp_path,
        image={"repository": REPOSITORY},
        backup={"bucket": "backups", "prefix": "released/"},
        rehearsal={"max_lock_seconds": 30.0, "max_stall_seconds": 30.0},
    )


def _backed_up(shop: Database, s3: Any) -> None:
    if storage.newest_verified(s3, "backups", "released/") is None:
        storage.tag_restored(s3, dump_to_s3(shop, s3, "backups", "released/night.dump").record, 1.0)


def judged(plan: Plan, subject: Subject) -> Evidence:
    """What the step of the readiness leaves."""
    ti = Ti()
    first = Opening(ti.dag_id, "release", ti.run_id)
    leave(first, SUBJECT_KEY, subject.model_dump(mode="json"))
    ti.found = {(first.task_id, key): value for key, value in first.pushed.items()}
    step = RehearseRelease(task_id="rehearsal", plan=plan, opened_by="release")
    try:
        step.execute(context_of(ti))
    except AirflowFailException:
        assert ti.pushed[EVIDENCE_KEY]["verdict"] != Verdict.PASS
    return Evidence.model_validate(ti.pushed[EVIDENCE_KEY])


def test_the_readiness_has_the_release_rehearsed(plan: Plan) -> None:
    found = judged(plan, SUBJECT)
    assert found.passed, found.reason
    assert "20260101_a: forward and reverse and forward again" in found.reason
    assert "rehearsal_seconds" in {measured.what for measured in found.measurements}


def test_an_image_whose_migrations_cannot_be_read_is_no_pass(plan: Plan, inside: Release) -> None:
    inside.prints = [(1, "tar: prisma/migrations: No such file")]
    assert "cannot be read: tar:" in judged(plan, SUBJECT).reason


def test_an_image_that_nobody_knows_is_unknown(plan: Plan) -> None:
    found = judged(plan, SUBJECT.model_copy(update={"digest": ""}))
    assert found.verdict is Verdict.UNKNOWN


def test_a_plan_without_a_rehearsal_leaves_it_out_and_says_so(plan: Plan) -> None:
    found = judged(plan.model_copy(update={"rehearsal": None}), SUBJECT)
    assert found.reason == "left out: the plan has no rehearsal"


def test_by_the_command_line_it_is_the_same(
    plan: Plan, inside: Release, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv(OVERLAY_VARIABLE, str(tmp_path / "overlay.yaml"))
    asked = ["rehearse", "--plan", "pms", "--version", "v1.1.0"]
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "pass"
    inside.prints = [(0, packed(**{"20260101_b": ("ALTER TABLE nothing ADD COLUMN note text", "SELECT 1")}))]
    assert main(asked) == 1
    assert 'relation "nothing" does not exist' in capsys.readouterr().out
    assert main([*asked[:-1], "one"]) == 1
    assert "not a semantic version" in capsys.readouterr().err
    registry.has_image = False
    assert main(asked) == 1
    assert "the registry has no" in capsys.readouterr().err
