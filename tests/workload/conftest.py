from tests.support.registry import registry  # noqa: F401 - fixture
from tests.twins.world import in_cluster, plan, quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures
