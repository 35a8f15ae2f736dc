from __future__ import annotations

import pytest

from sandbox.cluster.errors import StatusError
from sandbox.cluster.selectors import field_selector, label_selector, workload_selects

POD = {
    "metadata": {"name": "p", "namespace": "n", "labels": {"app": "pms", "version": "blue"}},
    "spec": {"nodeName": "node"},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        ("", True),
        ("app=pms", True),
        ("app==pms,version=blue", True),
        ("app=pms,version=green", False),
        ("version!=green", True),
        ("missing!=x", True),
        ("version in (blue, green)", True),
        ("version in (green),app=pms", False),
        ("version notin (green)", True),
        ("missing notin (x)", True),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
    ],
)
def test_labels(selector: str, taken: bool) -> None:
    assert label_selector(selector)(POD) is taken


@pytest.mark.parametrize("selector", ["a=b=c", "in (x)", "a in x", "a,=b"])
def test_a_selector_that_makes_no_sense_is_refused(selector: str) -> None:
    with pytest.raises(StatusError) as error:
        label_selector(selector)
    assert error.value.code == 400


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        ("metadata.name=p", True),
        ("metadata.namespace!=n", False),
        ("status.phase=Running,spec.nodeName=node", True),
        ("status.phase!=Running", False),
        ("status.podIP=", True),
    ],
)
def test_fields(selector: str, taken: bool) -> None:
    assert field_selector(selector, "Pod")(POD) is taken


def test_a_field_the_kind_is_not_indexed_by_is_refused() -> None:
    with pytest.raises(StatusError, match="field label not supported"):
        field_selector("spec.containers=x", "Pod")


def test_the_selector_of_a_workload() -> None:
    labels = {"app": "pms", "version": "blue"}
    assert workload_selects({"matchLabels": {"app": "pms"}}, labels)
    assert not workload_selects({"matchLabels": {"app": "pms", "version": "green"}}, labels)
    assert not workload_selects({}, labels)
