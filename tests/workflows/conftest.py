"""The stand-in cluster and a plan for it."""

from tests.support.cluster import cluster, in_cluster, namespace, plan  # noqa: F401 - fixtures
