from tests.support.cluster import in_cluster, looks_often, namespace, plan  # noqa: F401 - fixtures
from tests.twins.world import quick_plan, twin, virtual_time  # noqa: F401 - fixtures
