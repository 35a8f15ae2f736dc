"""The hotel system on a real Kubernetes, without Airflow: databases, real images, real pods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handover.plan.load import load_plan
from handover.plan.model import Plan
from sandbox.kubernetes.description import Cluster
from sandbox.settings import REPOSITORY
from sandbox.stack import Sandbox
from tests.conftest import OVERLAY


@dataclass(frozen=True)
class Hotel:
    cluster: Cluster
    endpoints: dict[str, Any]
    plan: Plan


@pytest.fixture(scope="session")
def kubeconfig(real_cluster):
    """The administrator's."""
    return Path(real_cluster.kubeconfig)


@pytest.fixture(scope="module")
def hotel(real_cluster, tmp_path_factory):
    """Both namespaces as before a first deployment; gone again before the whole runs, which need the same addresses."""
    home = tmp_path_factory.mktemp("hotel") / "home"
    plan = load_plan(REPOSITORY / "include" / "plans" / "pms.yaml", OVERLAY)
    with Sandbox(home, small=True, only=["pms"], cluster=real_cluster) as running:
        yield Hotel(real_cluster, running.endpoints, plan)
