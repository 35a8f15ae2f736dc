"""A real Kubernetes of one node, in namespaces of its own: ``with Kubernetes(home) as cluster: ...``."""

from __future__ import annotations

from sandbox.kubernetes.description import Cluster
from sandbox.kubernetes.machine import requirements
from sandbox.kubernetes.node import Kubernetes, description, ensure_up, is_up

__all__ = ["Cluster", "Kubernetes", "description", "ensure_up", "is_up", "requirements"]
