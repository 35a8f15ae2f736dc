"""A plan for the stand-in cluster."""

from tests.support.cluster import in_cluster, looks_often, namespace, plan  # noqa: F401 - fixtures
