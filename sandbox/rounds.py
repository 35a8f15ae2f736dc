"""What the benches do to a deployment under watch: break its pods, ask for its rollback."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sandbox.runs import DEPLOYMENT, ROLLBACK, Team
from sandbox.services.access import Access

OLD, NEW = "v1.0.0", "v1.1.0"
"""The release that serves at the start, and the one that every round deploys."""
WATCH = "phase_2_application_deployment.deploy_new_version.soak"
WARM_SECONDS = 2.0
"""So long after its start the watch knows what is normal."""


@dataclass(frozen=True)
class Fault:
    """When pods were told to fail, and when the first of them had agreed. Unix seconds."""

    asked: float
    begun: float


def under_watch(team: Team) -> str:
    """Deploys `NEW` up to the watch after the switch; gives the run."""
    run_id = team.start(NEW)
    team.until(run_id, WATCH, "deferred")
    time.sleep(WARM_SECONDS)
    return run_id


def new_pods(endpoints: dict[str, Any]) -> list[str]:
    """Names of the pods of `NEW` in production."""
    with Access(**endpoints["kubernetes"]).client() as kube:
        pods = kube.get("/api/v1/namespaces/production/pods").raise_for_status().json()["items"]
    found = [
        pod["metadata"]["name"] for pod in pods
        if pod["metadata"].get("annotations", {}).get("handover/version") == NEW
    ]  # fmt: skip
    assert found, "no pod of the new version"
    return found


def break_pods(endpoints: dict[str, Any], pods: Iterable[str], namespace: str = "production") -> Fault:
    """Each of these pods answers 500 from now on."""
    answered = []
    with Access(**endpoints["kubernetes"]).client({"X-Admin-Token": endpoints["hotel"]["admin_token"]}) as kube:
        kube.get("/readyz").raise_for_status()  # the connection is there
        asked = time.time()
        for pod in pods:
            path = f"/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/-/fault"
            kube.post(path, json={"mode": "errors"}).raise_for_status()
            answered.append(time.time())
    return Fault(asked, answered[0])


def ask_for_rollback(team: Team, run_id: str) -> float:
    """As the lead does it; gives when the request was sent (Unix seconds)."""
    client = team.roles["lead"]
    client.run(DEPLOYMENT, run_id)  # signed in
    began = time.time()
    client.trigger(ROLLBACK, {"reason": "measuring", "deployment": run_id}, run_id=f"rollback__{run_id}")
    return began


def roll_back_now(team: Team) -> float:
    """The same by "roll back now"."""
    client = team.roles["lead"]
    client.where("pms")  # signed in, and looked at
    began = time.time()
    client.roll_back_now("pms", "measuring now")
    return began


def spread(values: list[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 3),
        "worst": round(max(values), 3),
        "all": [round(value, 3) for value in values],
    }
