from tests.support.cluster import cluster, in_cluster, namespace, plan  # noqa: F401 - fixtures
