"""A plan's reader for pages of services that nobody here wrote."""

from __future__ import annotations

import pytest

from handover.plan.pod_metrics import PodMetricsRules
from handover.telemetry.counters import Counters
from handover.telemetry.reader import Reader


@pytest.fixture
def read():
    """A page by a plan's section; ``probed``: paths that the kubelet asks for."""

    def of(text: str, probed: tuple[str, ...] = (), **rules: object) -> Counters:
        reader = Reader(PodMetricsRules.model_validate(rules), ("/health", "/metrics"))
        return reader.read(text, 0.0, frozenset(probed))

    return of
