"""What a pod prints or is said to have died of leaves no secret: not in XComs, messages, letters or the record."""

from __future__ import annotations

import asyncio
import json

import pytest
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from handover.foundation import EVIDENCE_KEY
from handover.kube.reasons import Trouble
from handover.models.evidence import Evidence, failed, passed
from handover.models.record import Check, SentMessage
from handover.people.channels import letters
from handover.people.messages import Message
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.record.ledger import _values
from handover.step import MAX_REASON, Step
from handover.workload import commands
from handover.workload.rollout import explain
from tests.support.task import Ti, context_of

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
PRINTED = "connecting to postgres://app:s3cr3t@db/x\nAuthorization: Bearer s3cr3t.s3cr3t\nDB_PASSWORD=s3cr3t\nboom"


class Prints(Step):
    """A step whose reason is what a pod has printed."""

    def __init__(self, *, how, **more):
        super().__init__(task_id="step", plan=PLAN, **more)
        self.how = how

    def work(self, run) -> Evidence:
        return self.how(self.task_id, PRINTED)


def test_the_evidence_of_a_step_has_none():
    ti = Ti()
    assert "s3cr3t" not in Prints(how=passed).execute(context_of(ti))
    with pytest.raises(AirflowFailException) as error:
        Prints(how=failed).execute(context_of(ti))
    assert "boom" in str(error.value)
    assert "s3cr3t" not in f"{ti.pushed[EVIDENCE_KEY]}{error.value}"


@given(said=st.text(min_size=1))
def test_a_reason_has_an_end(said):
    ti = Ti()
    Prints(how=lambda check, _: passed(check, said * MAX_REASON * 2)).execute(context_of(ti))
    assert len(ti.pushed[EVIDENCE_KEY]["reason"]) <= MAX_REASON


def test_the_words_of_a_pod_have_none():
    class Kube:
        async def logs(self, *_):
            return PRINTED

    trouble = Trouble("is in", "CrashLoopBackOff", PRINTED, pod="p", container="c", exit_code=1)
    for told in (str(trouble), asyncio.run(explain(Kube(), trouble)), commands.last_words(PRINTED)):
        assert "boom" in told
        assert "s3cr3t" not in told


def test_messages_have_none_in_any_channel():
    said = Message(
        event="x", title=PRINTED, slack=PRINTED, fields=(("Reason", PRINTED),), status_page="resolved", public=PRINTED,
        text=PRINTED, subject=PRINTED, to_stakeholders=True,
    )  # fmt: skip
    written = letters(PLAN, said, "run")
    assert {letter.kind for letter in written} == {"slack", "status page", "e-mail"}
    assert "s3cr3t" not in json.dumps([letter.model_dump(mode="json") for letter in written])


def test_the_record_has_none():
    entries = (
        SentMessage(at=1.0, channel="slack", text=PRINTED, problem=PRINTED),
        Check(
            try_number=1, check_name="c", verdict="fail", reason=PRINTED, started_at=1.0, at=2.0,
            measurements=({"what": "x", "value": 1.0, "source": PRINTED, "at": 1.0},),
        ),
    )  # fmt: skip
    assert "s3cr3t" not in str([_values(entry) for entry in entries])
