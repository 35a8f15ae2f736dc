"""Fixtures of this room."""

from tests.support.virtual import virtual_time  # noqa: F401 - a fixture
