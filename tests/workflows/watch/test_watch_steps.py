"""The step that hands the watch to the triggerer, and concludes from what it says."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from handover.models.evidence import Evidence, Verdict
from handover.models.record import SAMPLES_KEY
from handover.workflows.watch.steps import Watch, WatchStable
from tests.support.steps import RUN_ID, Ti, release, revived


@pytest.mark.plan("Step 7: Monitor green environment for 5 minutes")
def test_the_step_defers_for_as_long_as_it_takes_and_concludes_from_the_event(world):
    step = Watch(task_id="watch", plan=world.plan)
    ti = Ti(world.token, release("x"))
    with pytest.raises(TaskDeferred) as deferred:
        step.execute({"run_id": RUN_ID, "ti": ti})
    assert (deferred.value.timeout, step.execution_timeout) == (None, None)
    stored = json.dumps(deferred.value.trigger.serialize())
    assert "drain-token" not in stored
    assert revived(deferred.value.trigger).check == "watch"
    bad = Evidence(check="watch", verdict=Verdict.FAIL, reason="error_rate: all of them").model_dump(mode="json")
    with pytest.raises(AirflowFailException, match="error_rate: all of them"):
        step.resume({"run_id": RUN_ID, "ti": ti}, {"evidence": bad, "samples": [{"what": "error_rate"}]})
    assert ti.pushed[SAMPLES_KEY] == [{"what": "error_rate"}]
    good = Evidence(check="watch", verdict=Verdict.PASS, reason="300 s").model_dump(mode="json")
    assert step.resume({"run_id": RUN_ID, "ti": ti}, {"evidence": good, "samples": []}) == "300 s"


def test_the_watch_after_a_rollback_defers_for_its_time_and_once_more(world):
    step = WatchStable(task_id="watch", plan=world.plan, seconds=300)
    with pytest.raises(TaskDeferred) as deferred:
        step.execute({"run_id": RUN_ID, "ti": Ti(world.token, release("x"))})
    assert deferred.value.timeout.total_seconds() == 660
    assert revived(deferred.value.trigger).seconds == 300
