"""Manifests and command texts: pure."""

from __future__ import annotations

import pytest

from handover.kube.jobs import JobResult
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.workload import commands, manifests

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")


def test_the_deployment_of_a_colour():
    body = manifests.deployment(PLAN, "green", "v1.1.0", "ghcr.io/ai-hotel/pms@sha256:1", 7)
    spec = body["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert body["metadata"]["name"] == "pms-green"
    assert body["spec"]["selector"]["matchLabels"] == {"app": "pms", "version": "green"}
    assert body["spec"]["template"]["metadata"]["labels"] == {"app": "pms", "version": "green"}
    assert (body["spec"]["replicas"], body["spec"]["progressDeadlineSeconds"]) == (2, 600)
    assert body["spec"]["template"]["metadata"]["annotations"] == {"handover/version": "v1.1.0"}
    written = {"version": "v1.1.0", "generation": "7", "image": "ghcr.io/ai-hotel/pms@sha256:1"}
    assert body["metadata"]["annotations"] == {f"handover/{key}": value for key, value in written.items()}
    assert (container["image"], container["name"]) == ("ghcr.io/ai-hotel/pms@sha256:1", "pms")
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [("{url}", "http://x"), ("--url={url}/a", "--url=http://x/a"), ('{"a": 1}', '{"a": 1}'), ("none", "none")],
)
def test_the_url_in_a_command(text, filled):
    assert commands.filled(text, url="http://x") == filled


def test_last_words_are_few_and_on_one_line():
    assert commands.last_words("") == ""
    assert commands.last_words("a\n\n b \nc\n", lines=2) == "b | c"
    assert len(commands.last_words("x" * 5000)) == 600


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (JobResult("j", False, "the limit", 3, "a\nb\n"), "the limit; exit code 3; it printed: a | b"),
        (JobResult("j", False, "the limit", 0), "the limit; exit code 0"),
        (JobResult("j", None, "the Job is gone"), "the Job is gone"),
        (JobResult("j", None), "nobody knows why"),
    ],
)
def test_why_a_command_did_not_succeed(result, told):
    assert commands.why(result) == told
