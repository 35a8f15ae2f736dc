"""Argo Rollouts on the sandbox's cluster, tuned as tight as it goes, to be measured beside our own rollback."""

from __future__ import annotations

from sandbox.argo.controller import Argo
from sandbox.argo.rollout import Rollout

__all__ = ["Argo", "Rollout"]
