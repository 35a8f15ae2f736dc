"""Fixtures of this room."""

from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures
