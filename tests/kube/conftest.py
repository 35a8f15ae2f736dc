from tests.support.cluster import cluster, in_cluster, namespace, plan  # noqa: F401 - fixtures
from tests.twins.world import quick_plan, twin, virtual_time  # noqa: F401 - fixtures
