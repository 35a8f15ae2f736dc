"""Where an answer says which version, or which pod, gave it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.plan.traffic import MAX_SAID, Origin

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
PODINFO = json.dumps({"hostname": "web-green-5d7-x", "version": "6.9.2", "runtime": {"num_cpu": 2, "go": "1.26"}})


@pytest.mark.parametrize(("where", "headers", "body", "said"), [
    ({"header": "X-Version"}, {"x-version": " v1.2.3 "}, "", "v1.2.3"),
    ({"header": "x-version"}, {"X-Version": "v1.2.3"}, "", "v1.2.3"),
    ({"header": "X-Version"}, {"Server": "nginx"}, PODINFO, ""),
    ({"field": "version"}, {}, PODINFO, "6.9.2"),
    ({"field": "runtime.go"}, {}, PODINFO, "1.26"),
    ({"field": "runtime.num_cpu"}, {}, PODINFO, "2"),
    ({"field": "runtime"}, {}, PODINFO, ""),
    ({"field": "version.major"}, {}, PODINFO, ""),
    ({"field": "version"}, {}, '["6.9.2"]', ""),
    ({"field": "version"}, {}, '{"version": null}', ""),
    ({"field": "version"}, {}, '{"version": true}', ""),
    ({"field": "version"}, {}, "<html>", ""),
    ({"pattern": "Shop ([0-9.]+)"}, {}, "<i>Shop 1.2.3</i>", "1.2.3"),
    ({"pattern": "Shop ([0-9.]+)"}, {}, "<i>Shop</i>", ""),
    ({"pattern": "(.*)"}, {}, "x" * (MAX_SAID + 1), ""),
])  # fmt: skip
def test_what_an_answer_says(where, headers, body, said):
    assert Origin(**where).said(headers, body) == said


@pytest.mark.parametrize(("names_pod", "said", "wanted", "is_from"), [
    (False, "1.1.0", "v1.1.0", True), (False, "v1.1.0", "v1.0.0", False), (False, "", "v1.1.0", False),
    (False, "v1.1.0", "", False), (True, "web-green-5d7-x", "web-green", True),
    (True, "web-greenish-1", "web-green", False),
    (True, "web-blue-1", "web-green", False), (True, "", "web-green", False), (True, "web-green-1", "", False),
])  # fmt: skip
def test_whether_that_is_the_wanted_one(names_pod, said, wanted, is_from):
    assert Origin(header="X", names_pod=names_pod).is_from(said, wanted) is is_from


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=20), st.text(max_size=20)))
def test_no_answer_breaks_it(body, headers):
    for where in ({"header": "X-Version"}, {"field": "a.b"}, {"pattern": "v([0-9.]+)"}):
        assert isinstance(Origin(**where).said(headers, body), str)


@pytest.mark.parametrize(("where", "why"), [
    ({}, "say one of header, field and pattern"),
    ({"header": "X-Version", "field": "version"}, "say one of header, field and pattern"),
    ({"pattern": "v[0-9]+"}, "has 0 groups"), ({"pattern": "(a)(b)"}, "has 2 groups"),
    ({"pattern": "("}, "no regular expression"), ({"header": "X Version"}, "header"), ({"field": ""}, "field"),
    ({"field": "a..b"}, "field"), ({"header": "X", "path": "version"}, "path"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(where, why):
    with pytest.raises(ValidationError, match=why):
        Origin(**where)


def with_traffic(**values):
    return Plan.model_validate(PLAN.model_dump() | {"traffic": PLAN.traffic.model_dump() | values})


def test_where_nobody_says_it_the_plan_says_how_long_both_serve():
    with pytest.raises(ValidationError, match="entry_seconds is needed"):
        with_traffic(origin=None)
    assert with_traffic(origin=None, entry_seconds=5.0).said_by("green", "v1.1.0") == ""


def test_a_pods_name_begins_with_that_of_its_deployment():
    assert with_traffic(origin={"field": "hostname", "names_pod": True}).said_by("green", "v1.1.0") == "pms-green"
    assert PLAN.said_by("green", "v1.1.0") == "v1.1.0"
