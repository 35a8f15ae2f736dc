"""A release's command as a Job."""

from __future__ import annotations

import contextlib
import re

import pytest

from handover.kube import jobs
from handover.kube.jobs import Command
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from tests.support.cluster import image

SAY = ("sh", "-c", "echo out; echo $SETTING; echo $EXTRA; echo err >&2")


@pytest.mark.parametrize("name", ["pms-smoke", "PMS Smoke!", "x" * 90, "--", "unit_tests", "a-"])
def test_job_names_are_labels(name):
    made = Command(name, "k", "i", ("x",)).job_name
    assert len(made) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", made), made


def test_job_names_follow_the_key():
    assert Command("a", "1", "i", ("x",)).job_name == Command("a", "1", "j", ("y",)).job_name
    assert Command("a", "1", "i", ("x",)).job_name != Command("a", "2", "i", ("x",)).job_name


def test_the_manifest_holds_command_variables_and_secret():
    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    job = jobs.manifest(plan.cluster, Command("smoke", "k", "r/i:v1", ("npm", "test"), {"URL": "http://x"}))
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["npm", "test"]
    assert {"name": "URL", "value": "http://x"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "pms-secrets"}}]
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == plan.cluster.job_timeout_seconds


@pytest.mark.sandbox
def test_it_runs_with_the_settings_and_gives_its_output(in_cluster, plan):
    command = Command("say", "1", image("v1.0.0"), SAY, {"EXTRA": "more"})
    result = in_cluster(lambda kube: jobs.run(kube, plan.cluster, command))
    assert result.succeeded
    assert sorted(result.output.split("\n")) == sorted(["out", "from the secret", "more", "err", ""])


@pytest.mark.sandbox
def test_a_failure_is_told_with_its_output(in_cluster, plan):
    command = Command("say", "1", image("v1.0.0"), ("sh", "-c", "echo why; exit 1"))
    result = in_cluster(lambda kube: jobs.run(kube, plan.cluster, command))
    assert (result.succeeded, result.output) == (False, "why\n")


@pytest.mark.sandbox
def test_the_same_key_runs_once(in_cluster, plan, tmp_path):
    command = Command("once", "1", image("v1.0.0"), ("sh", "-c", f"echo x >> {tmp_path}/ran"))

    async def work(kube):
        await jobs.run(kube, plan.cluster, command)
        await jobs.run(kube, plan.cluster, command)

    in_cluster(work)
    assert (tmp_path / "ran").read_text() == "x\n"


@pytest.mark.sandbox
def test_a_job_that_is_gone_has_failed_and_has_no_output(in_cluster, plan):
    async def work(kube):
        return await jobs.outcome(kube, "gone"), await jobs.output(kube, "gone", plan.cluster.container)

    assert in_cluster(work) == (False, "")


@pytest.mark.sandbox
def test_a_command_that_does_not_end_is_stopped(in_cluster, plan):
    cluster = plan.cluster.model_copy(update={"job_timeout_seconds": 1})
    command = Command("slow", "1", image("v1.0.0"), ("sleep", "60"))
    with contextlib.suppress(TimeoutError):  # whoever looks at the clock first: the cluster or we
        assert not in_cluster(lambda kube: jobs.run(kube, cluster, command)).succeeded
