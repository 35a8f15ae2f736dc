"""Section `pod_metrics`: what is wrong is told when the plan is read; what is not said has a default."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.plan.pod_metrics import PodMetricsRules

PMS = INCLUDE / "plans" / "pms.yaml"


def test_a_plan_without_the_section_is_valid():
    data = yaml.safe_load(PMS.read_text())
    del data["pod_metrics"]
    found = Plan.model_validate(data).pod_metrics
    assert (found.path, found.port, found.max_bytes, found.counts_kubelet) == ("/metrics", None, 5_000_000, True)
    assert (found.requests, found.latency, found.cpu_seconds, found.leave_out) == (None, None, None, ())


def test_what_is_stored_of_a_plan_is_the_same_plan():
    plan = load_plan(PMS)
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan


def test_a_metric_may_be_its_name_alone():
    found = PodMetricsRules.model_validate({"requests": "calls", "latency": "took_ms", "disk_bytes": "disk"})
    assert found.requests and found.latency and found.disk_bytes
    assert (found.requests.metric, found.latency.metric, found.latency.unit) == ("calls", "took_ms", "milliseconds")
    assert (found.disk_bytes.metric, found.disk_bytes.times) == ("disk", 1)


@pytest.mark.parametrize(("section", "says"), [
    ({"latency": "http_took"}, "unit is missing: the name http_took does not tell it"),
    ({"latency": {"metric": "took", "unit": "hours"}}, "Input should be 'seconds', 'milliseconds'"),
    ({"latency": 5}, "valid dictionary"),
    ({"requests": {"metric": "http requests"}}, "String should match pattern"),
    ({"requests": {"metric": "http_requests_total{code=\"200\"}"}}, "String should match pattern"),
    ({"requests": {"metric": "a", "errors": "5[0-9"}}, "no regular expression"),
    ({"requests": {"metric": "a", "errors": ""}}, "at least 1 character"),
    ({"requests": {"metric": "a", "status": "le-vel"}}, "String should match pattern"),
    ({"path": "metrics"}, "String should match pattern"),
    ({"port": 0}, "greater than or equal to 1"), ({"max_bytes": "10MB"}, "less than or equal to 8000000"),
    ({"leave_out": [{}]}, "at least 1 item"), ({"leave_out": [{"path": "("}]}, "no regular expression"),
    ({"cpu_seconds": {"metric": "a", "times": 0}}, "greater than 0"), ({"cpu": "a"}, "Extra inputs"),
])  # fmt: skip
def test_what_is_wrong_is_told_when_the_plan_is_read(section, says):
    with pytest.raises(ValidationError, match=says.replace("[", r"\[").replace("(", r"\(")):
        PodMetricsRules.model_validate(section)
