"""What a watch asks beside pods and probes."""

from __future__ import annotations

from handover.plan.model import Plan
from handover.workflows.watch.sources import sources_of
from tests.support.plans import bare


def test_a_service_without_a_database_or_a_tracker_is_judged_by_its_pods_and_probes():
    assert sources_of(Plan.model_validate(bare()), "v1.1.0", "green") == []
