from tests.twins.world import quick_plan, virtual_time, world  # noqa: F401 - fixtures
