"""The API's rules: versions, conflicts, lists, watches, patches, subresources, refusals."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.sandbox

MERGE = "application/merge-patch+json"


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "data": data}


def watch(cluster: Any, path: str, count: int, timeout: float = 10) -> list[tuple[str, Any]]:
    """The first events of a watch, until `count` of them came or the server ends it."""
    request = urllib.request.Request(cluster.url + path, headers={"Authorization": f"Bearer {cluster.token}"})
    events = []
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        for line in answer:
            event = json.loads(line)
            events.append((event["type"], event["object"]))
            if len(events) == count:
                break
    return events


def test_without_the_token_only_readiness_and_version_are_answered(cluster: Any) -> None:
    assert urllib.request.urlopen(cluster.url + "/readyz").status == 200
    assert cluster.call("GET", "/api/v1/pods", Authorization="Bearer wrong")[0] == 401
    assert cluster.get("/version")["minor"] == "36"


def test_a_stale_version_is_a_conflict_and_nothing_is_written(cluster: Any, maps: str) -> None:
    _, first = cluster.call("POST", maps, config("x", v="1"))
    _, second = cluster.call("PUT", f"{maps}/x", {**first, "data": {"v": "2"}})
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    status, refused = cluster.call("PUT", f"{maps}/x", {**first, "data": {"v": "3"}})
    assert (status, refused["reason"]) == (409, "Conflict")
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"v": "4"}}
    assert cluster.call("PATCH", f"{maps}/x", stale, MERGE)[0] == 409
    condition = {"preconditions": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    assert cluster.call("DELETE", f"{maps}/x", condition)[0] == 409
    assert cluster.call("DELETE", f"{maps}/x", {"preconditions": {"uid": "another"}})[0] == 409
    assert cluster.get(f"{maps}/x")["data"] == {"v": "2"}


def test_of_many_writers_with_the_same_version_one_wins(cluster: Any, namespace: str) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    _, lease = cluster.call("POST", leases, {"metadata": {"name": "lock"}, "spec": {"holderIdentity": ""}})
    answers: list[int] = []

    def take(number: int) -> None:
        wanted = {**lease, "spec": {"holderIdentity": str(number), "leaseTransitions": 1}}
        answers.append(cluster.call("PUT", f"{leases}/lock", wanted)[0])

    writers = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert sorted(answers) == [200, *[409] * 7]


def test_a_lease_is_not_replaced_without_its_version(cluster: Any, namespace: str) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    body = {"metadata": {"name": "lock"}, "spec": {"holderIdentity": "me"}}
    assert cluster.call("PUT", f"{leases}/lock", body)[0] == 201
    assert cluster.call("PUT", f"{leases}/lock", body)[0] == 422


def test_writing_the_same_again_changes_no_version(cluster: Any, maps: str) -> None:
    _, first = cluster.call("POST", maps, config("x", v="1"))
    _, again = cluster.call("PATCH", f"{maps}/x", {"data": {"v": "1"}}, MERGE)
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason"),
    [
        ("GET", "/api/v1/namespaces/{ns}/configmaps/missing", None, 404, "NotFound"),
        ("GET", "/api/v1/namespaces/{ns}/unknowns", None, 404, "NotFound"),
        ("POST", "/api/v1/namespaces/nowhere/configmaps", {"metadata": {"name": "x"}}, 404, "NotFound"),
        ("POST", "/api/v1/namespaces/{ns}/configmaps", {"metadata": {"name": "No_Name"}}, 422, "Invalid"),
        ("POST", "/api/v1/namespaces/{ns}/configmaps", {"metadata": {"name": "x" * 300}}, 422, "Invalid"),
        ("POST", "/api/v1/namespaces/{ns}/configmaps", {"metadata": {}}, 422, "Invalid"),
        ("POST", "/api/v1/namespaces/{ns}/configmaps", {"metadata": 1}, 400, "BadRequest"),
        ("POST", "/api/v1/namespaces/{ns}/configmaps", {"kind": "Pod", "metadata": {"name": "x"}}, 400, "BadRequest"),
        ("POST", "/api/v1/namespaces/{ns}/configmaps", [1], 400, "BadRequest"),
        ("POST", "/api/v1/namespaces/{ns}/configmaps", b"{not json", 400, "BadRequest"),
        ("POST", "/api/v1/namespaces/{ns}/pods", {"metadata": {"name": "x"}, "spec": {}}, 422, "Invalid"),
        ("POST", "/api/v1/namespaces/{ns}/pods", {"metadata": {"name": "x"}, "spec": []}, 400, "BadRequest"),
        ("POST", "/api/v1/namespaces/{ns}/services", {"metadata": {"name": "x"}, "spec": 1}, 422, "Invalid"),
        ("POST", "/api/v1/namespaces/{ns}/services", {"metadata": {"name": "x"}, "spec": {}}, 422, "Invalid"),
        ("POST", "/apis/apps/v1/namespaces/{ns}/deployments", {"metadata": {"name": "x"}}, 422, "Invalid"),
        ("POST", "/apis/batch/v1/namespaces/{ns}/jobs", {"metadata": {"name": "x"}, "spec": {}}, 422, "Invalid"),
        ("POST", "/api/v1/namespaces/{ns}/configmaps", {"metadata": {"name": "x", "labels": [1]}}, 400, "BadRequest"),
        ("GET", "/api/v1/pods?timeoutSeconds=x&watch=1", None, 400, "BadRequest"),
        ("PATCH", "/api/v1/namespaces/default", {}, 415, "UnsupportedMediaType"),
        ("PUT", "/api/v1/namespaces/{ns}/configmaps", {}, 405, "MethodNotAllowed"),
        ("GET", "/api/v1/pods?labelSelector=a%3Db%3Dc", None, 400, "BadRequest"),
        ("GET", "/api/v1/pods?fieldSelector=spec.odd%3Dc", None, 400, "BadRequest"),
        ("GET", "/api/v1/pods?resourceVersion=99999999999999", None, 504, "Timeout"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    cluster: Any, namespace: str, method: str, path: str, body: Any, code: int, reason: str
) -> None:
    status, answer = cluster.call(method, path.format(ns=namespace), body)
    assert (status, answer["reason"], answer["kind"]) == (code, reason, "Status"), answer


def test_creating_what_exists_is_refused(cluster: Any, maps: str) -> None:
    assert cluster.call("POST", maps, config("x"))[0] == 201
    status, answer = cluster.call("POST", maps, config("x"))
    assert (status, answer["reason"]) == (409, "AlreadyExists")


def test_the_server_makes_a_name_that_is_free(cluster: Any, maps: str) -> None:
    made = {cluster.call("POST", maps, {"metadata": {"generateName": "x-"}})[1]["metadata"]["name"] for _ in range(3)}
    assert len(made) == 3
    assert all(name.startswith("x-") for name in made)


def test_lists_select_by_labels_and_fields(cluster: Any, maps: str) -> None:
    for name in "abcde":
        cluster.call("POST", maps, config(name, {"half": "first" if name < "d" else "second"}))
    names = [one["metadata"]["name"] for one in cluster.get(f"{maps}?labelSelector=half%3Dfirst")["items"]]
    assert names == ["a", "b", "c"]
    assert len(cluster.get(f"{maps}?fieldSelector=metadata.name%3De")["items"]) == 1


def test_a_watch_resumes_without_a_gap_and_sees_objects_enter_and_leave_its_selector(cluster: Any, maps: str) -> None:
    _, first = cluster.call("POST", maps, config("x", {"seen": "no"}))
    version = first["metadata"]["resourceVersion"]
    cluster.call("PATCH", f"{maps}/x", {"metadata": {"labels": {"seen": "yes"}}}, MERGE)
    cluster.call("PATCH", f"{maps}/x", {"data": {"v": "2"}}, MERGE)
    cluster.call("PATCH", f"{maps}/x", {"metadata": {"labels": {"seen": "no"}}}, MERGE)
    cluster.call("PATCH", f"{maps}/x", {"metadata": {"labels": {"seen": "yes"}}}, MERGE)
    cluster.call("DELETE", f"{maps}/x")
    path = f"{maps}?watch=true&resourceVersion={version}&labelSelector=seen%3Dyes&timeoutSeconds=5"
    assert [kind for kind, _ in watch(cluster, path, 5)] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]


def test_a_watch_is_live_begins_with_what_exists_and_ends_in_time(cluster: Any, maps: str) -> None:
    cluster.call("POST", maps, config("x"))
    timer = threading.Timer(0.3, cluster.call, ("POST", maps, config("y")))
    timer.start()
    began = time.monotonic()
    events = watch(cluster, f"{maps}?watch=true&timeoutSeconds=1", 10)
    assert [(kind, found["metadata"]["name"]) for kind, found in events] == [("ADDED", "x"), ("ADDED", "y")]
    assert 0.9 < time.monotonic() - began < 5


def test_bookmarks_tell_how_far_a_watch_came(cluster: Any, maps: str) -> None:
    cluster.call("POST", maps, config("x"))
    path = f"{maps}?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&timeoutSeconds=1"
    (_, _), (kind, mark) = watch(cluster, path, 2)
    assert kind == "BOOKMARK"
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_watch_from_too_long_ago_is_told_to_list_again(start_cluster: Callable[..., Any]) -> None:
    cluster = start_cluster(history=20)
    version = cluster.get("/api/v1/pods")["metadata"]["resourceVersion"]
    for number in range(30):
        cluster.call("POST", "/api/v1/namespaces/default/configmaps", config(f"x{number}"))
    ((kind, found),) = watch(cluster, f"/api/v1/pods?watch=true&resourceVersion={version}", 1)
    assert (kind, found["code"], found["reason"]) == ("ERROR", 410, "Expired")
    ahead = int(cluster.get("/api/v1/pods")["metadata"]["resourceVersion"]) + 1000
    ((kind, found),) = watch(cluster, f"/api/v1/pods?watch=true&resourceVersion={ahead}", 1)
    assert (kind, found["code"]) == ("ERROR", 410)


def test_a_dry_run_answers_what_would_be_and_stores_nothing(cluster: Any, namespace: str, maps: str) -> None:
    assert cluster.call("POST", f"{maps}?dryRun=All", config("x"))[0] == 201
    assert cluster.call("GET", f"{maps}/x")[0] == 404
    cluster.call("POST", maps, config("y", v="1"))
    assert cluster.call("PATCH", f"{maps}/y?dryRun=All", {"data": {"v": "2"}}, MERGE)[1]["data"] == {"v": "2"}
    assert cluster.call("DELETE", f"{maps}/y?dryRun=All")[0] == 200
    assert cluster.get(f"{maps}/y")["data"] == {"v": "1"}
    refused = {"metadata": {"name": "s"}, "spec": {"ports": []}}
    assert cluster.call("POST", f"/api/v1/namespaces/{namespace}/services?dryRun=All", refused)[0] == 422


def test_status_and_spec_are_written_apart_and_only_the_spec_counts_generations(
    cluster: Any, namespace: str, workload: Callable[..., Any]
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    cluster.call("POST", path, workload(replicas=0))
    change = {"spec": {"minReadySeconds": 1}, "status": {"replicas": 42}}
    _, written = cluster.call("PATCH", f"{path}/app", change, MERGE)
    assert (written["metadata"]["generation"], written["status"].get("replicas")) == (2, None)
    _, written = cluster.call("PATCH", f"{path}/app", {"metadata": {"labels": {"a": "b"}}}, MERGE)
    assert written["metadata"]["generation"] == 2
    _, reported = cluster.call(
        "PATCH", f"{path}/app/status", {"spec": {"minReadySeconds": 9}, "status": {"readyReplicas": 7}}, MERGE
    )
    assert (reported["spec"]["minReadySeconds"], reported["metadata"]["generation"]) == (1, 2)


def test_scale_is_a_view_of_its_own_with_the_same_versions(
    cluster: Any, namespace: str, workload: Callable[..., Any]
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    _, created = cluster.call("POST", path, workload(replicas=0))
    scale = cluster.get(f"{path}/app/scale")
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 0)
    stale = {**scale, "metadata": {**scale["metadata"], "resourceVersion": "1"}, "spec": {"replicas": 3}}
    assert cluster.call("PUT", f"{path}/app/scale", stale)[0] == 409
    status, scaled = cluster.call("PATCH", f"{path}/app/scale", {"spec": {"replicas": 1}}, MERGE)
    assert (status, scaled["spec"]["replicas"]) == (200, 1)
    assert cluster.get(f"{path}/app")["metadata"]["generation"] == created["metadata"]["generation"] + 1


def test_a_selector_is_fixed_and_has_to_match_the_template(
    cluster: Any, namespace: str, workload: Callable[..., Any]
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    wrong = workload(replicas=0)
    wrong["spec"]["selector"]["matchLabels"] = {"app": "other"}
    status, answer = cluster.call("POST", path, wrong)
    assert status == 422
    assert "selector" in answer["message"]
    cluster.call("POST", path, workload(replicas=0))
    change = {"spec": {"selector": {"matchLabels": {"app": "other"}}}}
    assert cluster.call("PATCH", f"{path}/app", change, MERGE)[0] == 422


def test_secrets_take_plain_text_and_keep_it_encoded(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    _, made = cluster.call("POST", path, {"metadata": {"name": "s"}, "stringData": {"a": "text"}})
    assert (made["data"], "stringData" in made, made["type"]) == ({"a": "dGV4dA=="}, False, "Opaque")
    assert cluster.call("POST", path, {"metadata": {"name": "t"}, "data": {"a": "***"}})[0] == 422


def test_server_side_apply_creates_conflicts_and_removes(cluster: Any, maps: str) -> None:
    media = "application/apply-patch+yaml"
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: '1', b: '2'}"
    assert cluster.call("PATCH", f"{maps}/x?fieldManager=me", text, media)[0] == 201
    other = text.replace(b"'1'", b"'9'")
    status, refused = cluster.call("PATCH", f"{maps}/x?fieldManager=other", other, media)
    assert (status, refused["reason"]) == (409, "Conflict")
    dry = cluster.call("PATCH", f"{maps}/x?fieldManager=other&force=true&dryRun=All", other, media)[1]
    assert dry["data"]["a"] == "9"
    less = text.replace(b", b: '2'", b"")
    assert cluster.call("PATCH", f"{maps}/x?fieldManager=me", less, media)[1]["data"] == {"a": "1"}


def test_owners_take_their_dependents_along(cluster: Any, maps: str, eventually: Callable[..., Any]) -> None:
    def family(name: str) -> None:
        _, owner = cluster.call("POST", maps, config(name))
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner["metadata"]["uid"]}
        child = {"metadata": {"name": f"{name}-child", "ownerReferences": [reference]}}
        assert cluster.call("POST", maps, child)[0] == 201

    family("a")
    cluster.call("DELETE", f"{maps}/a")
    eventually(lambda: cluster.call("GET", f"{maps}/a-child")[0] == 404)


def test_a_namespace_goes_with_all_it_holds(
    cluster: Any, eventually: Callable[..., Any], workload: Callable[..., Any]
) -> None:
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "short-lived"}})
    cluster.call("POST", "/apis/apps/v1/namespaces/short-lived/deployments", workload())
    eventually(lambda: cluster.get("/api/v1/namespaces/short-lived/pods")["items"])
    cluster.call("DELETE", "/api/v1/namespaces/short-lived")
    status, answer = cluster.call("POST", "/api/v1/namespaces/short-lived/configmaps", config("x"))
    assert status in (403, 404), answer
    eventually(lambda: cluster.call("GET", "/api/v1/namespaces/short-lived")[0] == 404)
    assert cluster.get("/api/v1/namespaces/short-lived/pods")["items"] == []


def test_every_question_of_rights_is_answered_yes(cluster: Any) -> None:
    review = {"spec": {"resourceAttributes": {"verb": "patch", "resource": "services", "namespace": "a"}}}
    status, answer = cluster.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert (status, answer["status"], answer["spec"]) == (201, {"allowed": True}, review["spec"])


def test_the_audit_log_has_verb_object_and_outcome_of_each_request(cluster: Any, maps: str) -> None:
    cluster.call("POST", maps, config("audited"))
    cluster.call("PATCH", f"{maps}/audited", {"data": {"a": "b"}}, MERGE)
    cluster.get(f"{maps}?labelSelector=a")
    cluster.call("GET", f"{maps}/missing")
    events = [json.loads(line) for line in (cluster.kubeconfig.parent / "audit.log").read_text().splitlines()]
    mine = [e for e in events if e["objectRef"]["namespace"] == maps.split("/")[4]]
    assert [(e["verb"], e["objectRef"]["name"], e["responseStatus"]["code"]) for e in mine[-4:]] == [
        ("create", "", 201), ("patch", "audited", 200), ("list", "", 200), ("get", "missing", 404),
    ]  # fmt: skip
