from tests.support.cluster import cluster  # noqa: F401 - fixtures
from tests.support.colours import made_world, world  # noqa: F401 - fixtures
