from tests.support.virtual import virtual_time  # noqa: F401 - a fixture
from tests.twins.beside import in_cluster, plan, twin  # noqa: F401 - fixtures
