"""The page in a browser: what somebody sees who was woken up, and what they can do there."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import expect

from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.models.incident import Resolution, Severity, began
from handover.models.record import IncidentEntry, IncidentKind, SentMessage
from handover.ports.kube import KubeError
from handover.workflows.page import reader
from handover.workflows.rollback.start import rollback_run_id
from tests.support.steps import RUN_ID

pytestmark = [pytest.mark.browser, pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="session")]
HOSTILE = (
    "<img src=x onerror=\"document.title='hacked'\"> **[x](javascript:alert(1))** " + "w" * 300 + " \u202eabc שלום"
)


def headline(page):
    return page.get_by_role("heading", level=1)


async def test_a_deployment_is_followed_live_to_its_end(scene, visit):
    page = await visit()
    await expect(headline(page)).to_have_text("Nothing was ever deployed here.")
    await scene.begin(ago=60)
    scene.under_way(("phase_1_pre_deployment.database_backup.backup", "running"))
    await expect(headline(page)).to_contain_text("v1.1.0 is being deployed (Phase 1: pre deployment)")
    await scene.step("phase_1_pre_deployment.database_backup.backup", reason="120 MB, verified")
    await expect(page.locator(".phase", has_text="Phase 1: pre deployment")).to_contain_text("1 step passed")
    await scene.switch()
    await scene.beat()
    await scene.measure(60)
    scene.under_way(("phase_2_application_deployment.soak", "deferred"))
    await expect(headline(page)).to_contain_text("has served since")
    await expect(page.get_by_text("100 % of new connections go to green")).to_be_visible()
    await expect(page.locator(".uplot")).not_to_have_count(0)
    await scene.end()
    await expect(headline(page)).to_have_text("v1.1.0 is deployed and serves.")
    await expect(page.get_by_text("Nobody holds it.")).to_be_visible()


async def test_a_soak_says_that_nobody_has_to_do_anything(scene, visit, picture):
    await scene.soaking()
    page = await visit(height=1700)
    await expect(page.locator(".headline")).to_contain_text("Nobody has to do anything now")
    await expect(page.locator(".uplot")).not_to_have_count(0)
    await expect(page.get_by_text("Clean since")).to_be_visible()
    await picture(page, "soak")


async def test_an_incident_is_rolled_back_by_the_button(scene, visit, picture):
    await scene.soaking()
    reason = "error rate 6 % is above 0.1 %"
    await scene.measure(60, spike=True)
    await scene.beat(Verdict.FAIL, reason)
    page = await visit(height=1300)
    await expect(page.locator(".headline.bad")).to_contain_text(reason)
    await page.get_by_role("button", name="Roll back now").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("traffic goes back to blue (v1.0.0) at once")
    await dialog.get_by_label("Why").fill("no")
    await dialog.get_by_role("button", name="Roll back now").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("at least")
    assert not scene.desk.airflow.started
    await dialog.get_by_label("Why").fill("checkout is broken")
    await dialog.get_by_role("button", name="Roll back now").click()
    await expect(dialog).to_contain_text("traffic is on blue (v1.0.0)")
    await expect(dialog).to_contain_text("ms")
    run = rollback_run_id(RUN_ID)
    assert scene.desk.airflow.started["pms_rollback", run]["reason"] == "checkout is broken (lead)"
    await picture(page, "rolled-back-by-button")
    await dialog.get_by_role("button", name="Close").click()
    await expect(page.get_by_text("100 % of new connections go to blue")).to_be_visible()
    scene.under_way()
    scene.under_way(("verify_application.health", "running"), dag="pms_rollback", run=run)
    opened = IncidentEntry(incident=run, kind=IncidentKind.OPENED, at=time.time(), severity="critical", text=reason)
    await scene.record(opened.of(RUN_ID, run, "notify_team"))
    incident = began("error_rate", reason, Severity.CRITICAL, time.time(), Resolution.ROLLED_BACK)
    await scene.state(
        status=Status.ROLLING_BACK, rollback_reason=f"{reason}; checkout is broken (lead)", back_at=time.time(),
        rollback_run=run, incidents=(incident,),
    )  # fmt: skip
    await expect(headline(page)).to_contain_text("v1.1.0 is being rolled back: traffic is back on blue (v1.0.0)")
    await expect(page.get_by_role("button", name="Roll back now")).to_have_count(0)
    await expect(page.get_by_role("heading", name="Incidents")).to_be_visible()
    await picture(page, "rollback")


async def test_a_question_is_answered_by_its_role_and_refused_to_another(scene, visit, picture):
    await scene.soaking()
    reason = "p99 1.3 s is above 1 s"
    incident = began("p99_seconds", reason, Severity.CRITICAL, time.time() - 1900, Resolution.ASKED)
    await scene.state(incidents=(incident,))
    known = ["Smoke test: 38 requests answered as expected", f"p99_seconds: {reason}"]
    asked = scene.asks("incident_response.ask", "v1.1.0 breaks a limit: fix or rollback?", until=time.time() - 95,
                       known=known)  # fmt: skip
    other = await visit("user")
    question = other.get_by_role("article", name="v1.1.0 breaks a limit: fix or rollback?")
    await expect(question).to_contain_text("You are signed in as user. Only Deployment Lead (lead) or CTO (cto) may")
    await expect(question.get_by_role("button", name="Send answer")).to_be_disabled()
    page = await visit("lead", height=1300)
    await expect(page.locator(".headline.bad")).to_contain_text("Deployment Lead (lead): answer below now.")
    question = page.get_by_role("article", name="v1.1.0 breaks a limit: fix or rollback?")
    await expect(question).to_contain_text("Overdue")
    await expect(question).to_contain_text("traffic goes back to v1.0.0 at once.")
    await picture(page, "question-overdue")
    await question.get_by_role("button", name="Send answer").click()
    await expect(question.get_by_role("alert")).to_contain_text("Choose an answer first")
    await question.get_by_label("Fix").check()
    await question.get_by_role("button", name="Send answer").click()
    await expect(page.get_by_text("Nobody is asked anything.")).to_be_visible()
    assert (asked["chosen_options"], asked["responded_by_user"]["id"]) == (["Fix"], "lead")
    assert scene.airflow.looked[-1]["response_received"] == ["false"]


async def test_what_airflow_answers_to_an_answer_is_said_in_words(scene, visit):
    await scene.begin()
    asked = scene.asks("ask", "Go on?", until=time.time() + 600)
    page = await visit()
    await page.get_by_label("Fix").check()
    asked["assigned_users"] = [{"id": "cto", "name": "CTO"}]  # the page knows an older one
    await page.get_by_role("button", name="Send answer").click()
    await expect(page.locator(".question").get_by_role("alert")).to_contain_text("you have no right to do this")
    asked["response_received"] = True
    await page.get_by_role("button", name="Send answer").click()
    await expect(page.get_by_text("Nobody is asked anything.")).to_be_visible()


async def test_who_may_only_look_sees_everything_and_cannot_roll_back(scene, visit):
    await scene.soaking()
    page = await visit("viewer")
    await expect(page.get_by_role("button", name="Roll back now")).to_be_disabled()
    await expect(page.get_by_text("You have no right to start the rollback DAG.")).to_be_visible()
    await expect(page.get_by_text("Signed in as viewer")).to_be_visible()


async def test_nobody_sees_anything_without_login_or_right(scene, visit):
    page = await visit("", url=f"{scene.url}/handover/")
    await expect(page).to_have_url(f"{scene.url}/api/v2/auth/login?next=%2Fhandover%2F")
    page = await visit("stranger")
    await expect(page.locator(".headline")).to_contain_text("you have no right to do this")
    page = await visit("stranger", url=f"{scene.url}/handover/")
    await expect(page.get_by_text("There is no service that you may read.")).to_be_visible()


async def test_a_cluster_that_is_away_is_said_and_nothing_old_is_shown_as_new(scene, visit, picture, monkeypatch):
    async def refused(*_):
        raise KubeError(0, "connection refused")

    await scene.soaking()
    page = await visit(height=1300)
    await expect(headline(page)).to_contain_text("has served since")
    monkeypatch.setattr(reader, "look", refused)
    await expect(headline(page)).to_contain_text("nobody can say here where traffic is")
    traffic = page.get_by_role("region", name="Where traffic is")
    await expect(traffic).to_contain_text("The cluster does not answer: connection refused. Last word:")
    await expect(page.get_by_role("region", name="The lock")).to_contain_text("as of")
    await picture(page, "cluster-away")


async def test_a_ledger_that_is_away_takes_only_the_evidence_down(scene, visit, monkeypatch):
    from handover.adapters.postgres import Database
    from tests.support.page import connection_to

    monkeypatch.setenv("AIRFLOW_CONN_PMS_RECORD", connection_to(Database("127.0.0.1", 1, "none", "none")))
    await scene.begin(ago=60)
    page = await visit()
    await expect(headline(page)).to_contain_text("v1.1.0 is being deployed")
    await expect(page.get_by_text("The ledger does not answer")).not_to_have_count(0)


async def test_a_server_that_stops_answering_makes_the_page_say_so(scene, visit):
    await scene.soaking()
    page = await visit()
    await expect(headline(page)).to_contain_text("has served since")
    await page.context.set_offline(True)
    await expect(headline(page)).to_contain_text("This page is out of date: what it shows is of")
    await page.context.set_offline(False)
    await expect(headline(page)).to_contain_text("has served since")


async def test_hostile_texts_are_text(scene, visit):
    await scene.begin(reason=HOSTILE)
    await scene.step("phase_1_pre_deployment.check", Verdict.FAIL, HOSTILE)
    await scene.beat(Verdict.FAIL, HOSTILE)
    said = SentMessage(at=time.time(), channel="slack", text=HOSTILE, problem=HOSTILE)
    await scene.record(said.of(RUN_ID, RUN_ID, "announce"))
    scene.airflow.ask("pms_deployment", RUN_ID, "ask", HOSTILE, [HOSTILE], body=HOSTILE, users={"lead": HOSTILE})
    page = await visit(width=375)
    await expect(page.get_by_role("heading", name="Messages")).to_be_visible()
    await expect(page.get_by_text("<img src=x").first).to_be_visible()
    assert await page.locator("main img, main script").count() == 0
    assert await page.title() == "Deployments"
    assert await page.evaluate("[...document.links].every((link) => /^https?:/.test(link.href))")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 375
