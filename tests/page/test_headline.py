"""The one sentence: what is going on, what is wrong, who must do what, for every way a deployment can stand."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="session")]
HEARD = {"answers": True, "at": 1.0, "reason": ""}
SILENT = {"answers": False, "at": None, "reason": "nobody watches: no sign of life was ever read"}
ONE = {
    "run": "r", "status": "deploying", "over": False, "stopped": False, "version": "v2", "previous_version": "v1",
    "stable": "blue", "switched_at": 1.0, "decision_at": None, "whereabouts": "", "rollback_reason": "",
    "watch_phase": "cutover", "incidents": [], "steps": [],
}  # fmt: skip
OPEN = {"rule": "error_rate", "reason": "6 % is above 0.1 %", "outcome": "asked"}
BACK = {"whereabouts": "traffic is back on blue (v1)", "rollback_reason": "errors"}
LEAD = {"subject": "Go on?", "turn": "Lead (lead)", "until": 60.0, "overdue": False}


def now(deployment: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    parts = {"cluster": HEARD, "watch": HEARD, "airflow": HEARD, "ledger": HEARD} | more.pop("parts", {})
    traffic = {"stage": "promoted", "deployment": "r", "moved_at": None, "reason": "", "unfit": ""}
    return {
        "parts": parts, "deployment": None if deployment is None else ONE | deployment, "watches": [],
        "traffic": traffic | more.pop("traffic", {}),
    } | more  # fmt: skip


CASES = [
    (now(), [], "good", "Nothing was ever deployed here.", "", "Nobody"),
    (now({}), [], "busy", "v2 is being deployed (Cutover) and has served since", "", "Nobody"),
    (now({"switched_at": None}), [], "busy", "clients still meet v1", "", "Nobody"),
    (now({"decision_at": 99.0}), [], "busy", "is being deployed", "", "rolled back by itself, then people are asked."),
    (now({}), [LEAD], "warn", "v2 waits for an answer: Go on?", "", "Lead (lead): answer below until"),
    (now({}), [LEAD | {"overdue": True}], "bad", "No answer came until", "", "Lead (lead): answer below now."),
    (now({"incidents": [OPEN]}), [LEAD], "bad", "waits for an answer", "Error rate: 6 %", "Lead"),
    (now({"incidents": [OPEN]}), [], "bad", "something is wrong", "6 % is above", "be ready to roll back"),
    (now({}, watches=[{"verdict": "fail", "reason": "slow"}]), [], "bad", "something is wrong", "slow.", "watch acts"),
    (now({}, parts={"watch": SILENT}), [], "bad", "nobody watches it", "no sign of life", "triggerer"),
    (now({}, parts={"cluster": SILENT}), [], "unknown", "nobody can say here where traffic is", "", "Operations"),
    (now({}, traffic={"unfit": "two Services"}), [], "bad", "cannot move traffic", "two Services.", "Operations"),
    (now({}, traffic={"stage": "aborted", "reason": "errors"}), [], "bad", "back on blue (v1)", "errors.", "Nobody"),
    (now({"status": "rolling_back"} | BACK), [], "bad", "v2 is being rolled back: traffic", "errors.", "Nobody"),
    (now({"status": "rollback_failed"} | BACK), [], "bad", "The rollback of v2 failed", "errors.", "by hand"),
    (now({"status": "rolled_back", "over": True} | BACK), [], "warn", "v2 was rolled back", "errors.", "Nobody"),
    (now({"status": "rolled_back", "over": True, "stopped": True}), [], "warn", "before any client", "", "Nobody"),
    (now({"status": "succeeded", "over": True}), [], "good", "v2 is deployed and serves.", "", "Nobody"),
    (now({"status": "given_up", "over": True}), [], "warn", "nothing was changed", "", "Nobody"),
]  # fmt: skip
SAY = """async ([cases, error]) => {
  const { headline } = await import("./static/headline.js");
  return cases.map(([now, asked]) => headline({ now, error, at: 1, asked }));
}"""


async def test_every_state_has_its_sentence_its_fault_and_its_person(scene, visit):
    page = await visit(url=f"{scene.url}/handover/")
    told = await page.evaluate(SAY, [[case[:2] for case in CASES], None])
    for said, (_, _, tone, text, wrong, todo) in zip(told, CASES, strict=True):
        assert said["tone"] == tone, said
        assert text in said["text"] and wrong in said["wrong"] and todo in said["todo"], said
        assert bool(said["wrong"]) is bool(wrong) or tone == "unknown", said


async def test_an_answer_that_fails_is_no_news_of_the_deployment(scene, visit):
    page = await visit(url=f"{scene.url}/handover/")
    error = {"status": 401, "message": "you are not signed in"}
    (old, none) = await page.evaluate(SAY, [[[now({}), []], [None, []]], error])
    assert (old["tone"], none["tone"]) == ("unknown", "unknown")
    assert "out of date" in old["text"] and "knows nothing yet" in none["text"]
    assert old["todo"] == "You: sign in to Airflow again."
