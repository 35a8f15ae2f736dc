"""Fixtures of this room."""

import pytest

from tests.support.cluster import image
from tests.support.steps import opened
from tests.support.virtual import virtual_time  # noqa: F401 - a fixture
from tests.twins.beside import in_cluster, plan, twin  # noqa: F401 - fixtures


@pytest.fixture
def token(in_cluster, plan):  # noqa: F811
    return in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0")))
