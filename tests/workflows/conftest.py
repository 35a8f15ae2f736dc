"""A plan for the stand-in cluster."""

from tests.support.cluster import in_cluster, namespace, plan  # noqa: F401 - fixtures
