"""Checks that ask over HTTP: pass, fail, and every way in which a source can give no answer."""

from __future__ import annotations

import json

import pytest

from handover.models.evidence import Verdict
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.readiness.alerts import AlertRule, any_kept
from handover.readiness.check import TIMEOUT_SECONDS
from handover.readiness.checklist import load
from handover.readiness.github import coverage, runs_succeeded
from tests.readiness.conftest import look
from tests.support.steps import connect_to
from tests.support.web import Answer, nobody, serving, silent

RUN = {"status": "completed", "conclusion": "success", "started_at": "2026-11-20T10:00:00Z"}
PULL = {"number": 41, "user": {"login": "grace"}, "merged_at": "2026-11-19T12:00:00Z"}


def runs(**changed):
    return {"check_runs": [{"name": name, **RUN, **change} for name, change in changed.items()]}


def review(who, state, at="2026-11-19T10:00:00Z"):
    return {"user": {"login": who}, "state": state, "submitted_at": at}


def rules(query, health="ok"):
    rule = {"type": "alerting", "name": "PmsErrorRate", "health": health, "query": query}
    return {"status": "success", "data": {"groups": [{"rules": [rule]}]}}


WORDS = {line.id: line.line for line in load(load_plan(INCLUDE / "plans" / "pms.yaml")).leaves}
"""The plan's own words by the id of their line in include/readiness."""
ASKED_BY_HTTP = [
    "pull_requests", "coverage", "security_scans", "sast", "types", "lint", "unit_tests", "integration_tests",
    "e2e_auth", "e2e_bookings", "e2e_payments", "e2e_stays", "e2e_staff", "e2e_admin", "performance_tests",
    "migrations_reviewed", "feature_flags", "application_dashboard", "infrastructure_dashboard", "database_dashboard",
    "error_rate_alert", "response_time_alert", "replication_lag_alert", "disk_usage_alert", "error_tracking", "apm",
    "status_page", "slack_channels", "on_call",
]  # fmt: skip


@pytest.mark.plan(
    "E2E tests: All critical path tests passing",
    "Monitoring dashboards created and tested",
    "Alerting rules configured and tested",
    "Dashboard: Create/refresh production monitoring dashboard",
    "All PRs merged",
    "Tests: 100% pass rate",
    "Coverage: >80%",
    "Security: All scans pass",
    "Type checking: tsc passes",
    "Linting: ESLint passes",
    "Dashboards created",
    "Alerts configured",
    "Error tracking enabled",
    "npm run lint && npm run type-check && npm test",
)
@pytest.mark.parametrize("line", [pytest.param(one, marks=pytest.mark.plan(WORDS[one])) for one in ASKED_BY_HTTP])
def test_on_the_stand_in_the_line_passes(verdict, line):
    found = verdict(line)
    assert found.passed, found


FAILS = [
    ("pull_requests", "github", "*/reviews", [review("ada", "APPROVED")], "#41: 1 of 2 approvals"),
    ("pull_requests", "github", "*/reviews", [review("ada", "APPROVED"), review("grace", "APPROVED")], "1 of 2"),
    ("pull_requests", "github", "*/reviews",
     [review("ada", "APPROVED"), review("bob", "APPROVED"), review("ada", "CHANGES_REQUESTED", "2026-11-20T00:00:00Z")],
     "ada asked for changes"),
    ("pull_requests", "github", "*/commits/*/pulls", [], "commit 6dcb09b5b5 came without a pull request"),
    ("coverage", "github", "*/check-runs", runs(coverage={"output": {"title": "80% of lines"}}), "80 %, must be above"),
    ("security_scans", "github", "*/check-runs",
     runs(snyk={}, sonarqube={"conclusion": "neutral"}, gitleaks={}), "sonarqube: neutral"),
    ("security_scans", "github", "*/secret-scanning/alerts",
     [{"number": 3, "secret": "ghp_verysecret", "secret_type": "github_token"}], "1 open: #3"),
    ("sast", "github", "*/code-scanning/alerts",
     [{"number": 8, "rule": {"security_severity_level": "high"}}, {"number": 9, "rule": {}}], "1 open: #8 high"),
    ("lint", "github", "*/check-runs", runs(lint={"conclusion": "failure"}), "lint: failure"),
    ("lint", "github", "*/check-runs", runs(lint={"conclusion": "skipped"}), "lint: skipped"),
    ("migrations_reviewed", "github", "*/reviews", [review("ada", "APPROVED")], "without approval by pms-dba"),
    ("feature_flags", "flags", "*", {"features": [{"name": "payments", "enabled": False}]}, "payments is off"),
    ("application_dashboard", "grafana", "*", {"dashboard": {"title": "D", "panels": [{"title": "Requests"}]}},
     "no panel about requests, errors, latency"),
    ("error_rate_alert", "prometheus", "*", rules("sum(rate(http_requests_total[5m])) > 0.05"), "fires at > 0.05"),
    ("error_rate_alert", "prometheus", "*", rules("sum(rate(http_requests_total[5m])) < 0.01"), "fires at < 0.01"),
    ("error_rate_alert", "prometheus", "*", rules("sum(rate(http_requests_total[1m])) > 0.01"), "not look at [5m]"),
    ("error_rate_alert", "prometheus", "*", rules("x > 0.01", health="err"), "its health is err"),
    ("error_rate_alert", "prometheus", "*", {"status": "success", "data": {"groups": []}}, "no such rule"),
    ("error_tracking", "sentry", "*/pms/", {"status": "pending_deletion"}, "pending_deletion"),
    ("error_tracking", "sentry", "*/keys/", [{"isActive": False}], "no active key"),
    ("apm", "datadog", "*/validate", {"valid": False}, "API key is not valid"),
    ("status_page", "statuspage", "*", {"name": "x", "url": "https://other.example.com"}, "the plan says"),
    ("slack_channels", "slack", "*/conversations.list",
     {"ok": True, "channels": [{"name": "pms-deployments", "is_member": False}]},
     "the deployer's app is not in #pms-deployments; #pms-incidents does not exist"),
    ("on_call", "pagerduty", "*",
     {"oncalls": [{"user": {"summary": "A"}, "start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}]},
     "nobody is on call from"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "service", "path", "body", "reason"), FAILS)
def test_what_is_not_as_the_plan_says_fails(verdict, says, line, service, path, body, reason):
    says(service, body, path=path)
    found = verdict(line)
    assert found.verdict is Verdict.FAIL, found
    assert reason in found.reason


@pytest.mark.parametrize(
    ("line", "service", "path"),
    [
        ("application_dashboard", "grafana", "*"),
        ("error_tracking", "sentry", "*"),
        ("apm", "datadog", "*/definitions/*"),
        ("status_page", "statuspage", "*"),
    ],
)
def test_what_has_to_be_there_and_is_not_fails(verdict, says, line, service, path):
    says(service, {}, path=path, status=404)
    assert verdict(line).verdict is Verdict.FAIL


UNKNOWN = [
    ("lint", "github", "*/check-runs", runs(types={}), "lint never ran"),
    ("lint", "github", "*/check-runs", runs(lint={"status": "in_progress", "conclusion": None}), "lint is in_progress"),
    ("coverage", "github", "*/check-runs", runs(coverage={"output": {"title": "all fine"}}), "names no percentage"),
    ("sast", "github", "*/analyses", [{"commit_sha": "another"}], "has not looked at 6dcb09b5b5"),
    ("error_rate_alert", "prometheus", "*", rules("up == on() http_requests_total[5m]"), "not end in a comparison"),
    ("on_call", "pagerduty", "*", {"more": True, "oncalls": []}, "more entries"),
    ("slack_channels", "slack", "*", {"ok": False, "error": "invalid_auth"}, "invalid_auth"),
]


@pytest.mark.parametrize(("line", "service", "path", "body", "reason"), UNKNOWN)
def test_what_cannot_be_told_is_unknown(verdict, says, line, service, path, body, reason):
    says(service, body, path=path)
    found = verdict(line)
    assert found.verdict is Verdict.UNKNOWN, found
    assert reason in found.reason


def service_of(line):
    table = {
        "feature_flags": "flags", "error_tracking": "sentry", "apm": "datadog", "status_page": "statuspage",
        "slack_channels": "slack", "on_call": "pagerduty",
    }  # fmt: skip
    suffixes = {"dashboard": "grafana", "alert": "prometheus"}
    return table.get(line) or suffixes.get(line.rpartition("_")[2], "github")


NO_ANSWER = [
    {"body": "down for maintenance", "status": 503},
    {"body": 7, "status": 200},
    {"body": {"something": "else"}, "status": 200},
    {"body": ["something", "else"], "status": 200},
]


@pytest.mark.parametrize("line", ASKED_BY_HTTP)
def test_a_source_that_gives_no_answer_is_unknown_with_a_reason(verdict, says, line):
    for answer in NO_ANSWER:
        says(service_of(line), **answer)
        found = verdict(line)
        assert found.verdict is Verdict.UNKNOWN, (answer, found)
        assert found.reason


@pytest.mark.parametrize("line", ["lint", "slack_channels"])  # each in its own client's words
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"body": {"message": "boom"}, "status": 500}, ""),
        ({"body": {}, "status": 429, "headers": {"Retry-After": "30"}}, "rate limit reached, try again in 30 s"),
        ({"body": {}, "status": 401}, ""),
        ({"body": "<html>not JSON</html>", "status": 200}, ""),
    ],
    ids=["500", "rate-limit", "401", "no-json"],
)
def test_how_a_source_refuses_is_in_the_reason(verdict, says, line, answer, reason):
    says(service_of(line), **answer)
    found = verdict(line)
    assert (found.verdict, reason in found.reason, bool(found.reason)) == (Verdict.UNKNOWN, True, True), found


@pytest.mark.parametrize("headers", [{"Retry-After": "60"}, {"X-RateLimit-Remaining": "0"}])
def test_githubs_rate_limit_comes_as_403(verdict, says, headers):
    says("github", {"message": "You have exceeded a secondary rate limit"}, status=403, headers=headers)
    assert "rate limit reached, try again" in verdict("lint").reason


def test_a_403_without_a_limit_is_a_matter_of_credentials(verdict, says):
    says("github", {"message": "Resource not accessible"}, status=403, headers={"X-RateLimit-Remaining": "4000"})
    assert "credentials are refused" in verdict("lint").reason


SOURCES = {
    "lint": "pms_github", "feature_flags": "pms_flags", "slack_channels": "pms_slack", "on_call": "pms_pagerduty",
    "apm": "pms_datadog",
}  # fmt: skip


@pytest.mark.parametrize(("line", "connection"), SOURCES.items())
def test_a_source_that_is_silent_refuses_or_is_not_configured_is_unknown(
    verdict, monkeypatch, waited, line, connection
):
    for end in (silent, nobody):
        with end() as (host, port):
            url = f"http://{host}:{port}"
            connect_to(monkeypatch, connection, host=url, password="s", extra={"base_url": f"{url}/"})
            found = verdict(line)
            assert found.verdict is Verdict.UNKNOWN, found
    monkeypatch.delenv(f"AIRFLOW_CONN_{connection.upper()}")
    found = verdict(line)
    assert found.verdict is Verdict.UNKNOWN, found
    assert "pms_" in found.reason
    assert all(seconds == TIMEOUT_SECONDS for seconds in waited)


def test_no_token_and_no_secret_of_an_alert_is_in_any_evidence(verdict, says, settings):
    says("github", [{"number": 3, "secret": "ghp_verysecret"}], path="*/secret-scanning/alerts")
    said = "".join(verdict(line).model_dump_json() for line in ASKED_BY_HTTP)
    assert not [secret for secret in ("ghp_verysecret", settings.secrets.service) if secret in said]


def test_without_the_version_that_serves_nobody_knows_what_is_new(settings, scope, lines):
    from dataclasses import replace

    from handover.readiness.operators import line_verdict

    blind = replace(scope, subject=scope.subject.model_copy(update={"previous": ""}))
    assert line_verdict(lines["pull_requests"], blind).verdict is Verdict.UNKNOWN


def test_every_page_is_read(scope, monkeypatch):
    """A failing run on the second page counts."""

    def answer(asked):
        page = int(asked.path.rpartition("page=")[2])
        run = {"name": f"run-{page}", **RUN, "conclusion": "success" if page == 1 else "failure"}
        link = {"Link": f'<http://elsewhere.invalid/?page={page + 1}>; rel="next"'} if page == 1 else {}
        return Answer(200, {"check_runs": [run]}, link)

    with serving(answer) as web:
        monkeypatch.setenv("AIRFLOW_CONN_PMS_GITHUB", json.dumps({"conn_type": "http", "host": web.url}))
        found = look(scope, kind="check_runs", connection="pms_github", repository="a/b", names=["run-1", "run-2"])
    assert (found.verdict, found.reason) == (Verdict.FAIL, "run-2: failure")


def test_a_list_without_an_end_is_unknown(scope, monkeypatch):
    link = {"Link": '<http://elsewhere.invalid/>; rel="next"'}
    with serving(lambda asked: Answer(200, {"check_runs": []}, link)) as web:
        monkeypatch.setenv("AIRFLOW_CONN_PMS_GITHUB", json.dumps({"conn_type": "http", "host": web.url}))
        found = look(scope, kind="check_runs", connection="pms_github", repository="a/b", names=["x"])
    assert (found.verdict, "more than 3000 items" in found.reason) == (Verdict.UNKNOWN, True)
    assert all(asked.headers["host"].startswith("127.0.0.1") for asked in web.asked)


# --- several things of one name


def run_of(conclusion, at="2026-11-29T10:00:00Z", *, app=1, suite=1, **more):
    whole = {"name": "test", "status": "completed", "conclusion": conclusion, "started_at": at, "id": 1}
    return whole | {"app": {"id": app}, "check_suite": {"id": suite}, "head_sha": "abc"} | more


LATER = "2026-11-29T10:00:05Z"
QUEUED = {"status": "queued", "started_at": None}


@pytest.mark.parametrize(("runs", "workflows", "verdict", "said"), [
    ([run_of("failure"), run_of("success", LATER, suite=2)], {1: 7, 2: 8}, Verdict.FAIL, "test: failure"),
    ([run_of("success", LATER), run_of("failure", suite=2)], {1: 7, 2: 8}, Verdict.FAIL, "test: failure"),
    ([run_of("failure"), run_of("success", LATER, suite=2)], {1: 7, 2: 7}, Verdict.PASS, "succeeded: test"),
    ([run_of("success"), run_of("failure", LATER, suite=2)], {1: 7, 2: 7}, Verdict.FAIL, "test: failure"),
    ([run_of("failure"), run_of("success", LATER)], {}, Verdict.PASS, "succeeded: test"),
    ([run_of("failure"), run_of("success", LATER, suite=2)], {}, Verdict.FAIL, "test: failure"),
    ([run_of("failure"), run_of("success", LATER, app=2)], {1: 7}, Verdict.FAIL, "test: failure"),
    ([run_of("success"), run_of("success", suite=2)], {1: 7, 2: 8}, Verdict.PASS, "succeeded: test"),
    ([run_of("success"), run_of(None, **QUEUED)], {}, Verdict.UNKNOWN, "test is queued"),
    ([run_of("failure"), run_of("success", id=2)], {}, Verdict.PASS, "succeeded: test"),
    ([run_of("failure", check_suite={}), run_of("success", LATER, id=2, check_suite={})], {}, Verdict.FAIL, "test:"),
], ids=["two_workflows", "in_another_order", "one_workflow_again", "again_and_worse", "rerun",
        "nobody_says_the_workflow", "two_apps", "all_well", "waits_again", "in_one_second", "no_suites"])  # fmt: skip
def test_of_checks_with_one_name_the_newest_of_each_workflow_has_to_succeed(runs, workflows, verdict, said):
    for order in (runs, runs[::-1]):
        found = runs_succeeded("check_runs", ("test",), order, workflows)
        assert found.verdict is verdict
        assert found.reason.startswith(said)


@pytest.mark.parametrize(("status", "verdict"), [(200, Verdict.PASS), (403, Verdict.FAIL)])
def test_which_workflow_a_check_is_of_is_asked(scope, monkeypatch, status, verdict):
    """Who may not read it knows no better than that both have to succeed."""
    both = [run_of("failure"), run_of("success", LATER, suite=2)]
    known = [{"check_suite_id": 1, "workflow_id": 7}, {"check_suite_id": 2, "workflow_id": 7}]

    def answer(asked):
        if "/actions/runs" in asked.path:
            return Answer(status, {"workflow_runs": known})
        return Answer(200, {"check_runs": both})

    with serving(answer) as web:
        monkeypatch.setenv("AIRFLOW_CONN_PMS_GITHUB", json.dumps({"conn_type": "http", "host": web.url}))
        found = look(scope, kind="check_runs", connection="pms_github", repository="a/b", names=["test"])
    assert found.verdict is verdict


@pytest.mark.parametrize(("title", "percent"), [
    ("91.20% (+0.02%) compared to main", "91.2"), ("Coverage decreased (-0.5%) to 91.2%", "91.2"), ("85,5 %", "85.5"),
    ("+0.5% to 91%", "91"), ("100%", "100"),
], ids=["codecov", "coveralls", "comma", "change_first", "all"])  # fmt: skip
def test_the_coverage_is_no_change_of_it(title, percent):
    found = coverage("coverage", "cov", {"status": "completed", "output": {"title": title}}, 80)
    assert (found.verdict, found.reason) == (Verdict.PASS, f"{percent} %, must be above 80 %")


def alert(query, health="ok"):
    return {"name": "HighErrorRate", "type": "alerting", "query": query, "health": health}


@pytest.mark.parametrize(("loaded", "verdict", "said"), [
    ([alert("e > 0.01"), alert("e > 0.05")], Verdict.PASS, "fires above 0.01"),
    ([alert("e > 0.02"), alert("e > 0.05")], Verdict.FAIL, "fires at > 0.02, the plan says > 0.01; fires at > 0.05"),
    ([alert("e > 0.05"), alert("e > 0.01", "err")], Verdict.FAIL, "its health is err"),
    ([alert("e > 0.01", "unknown")], Verdict.UNKNOWN, "it was not evaluated yet"),
    ([alert("e > 0.05"), alert("e > 0.01", "unknown")], Verdict.UNKNOWN, "it was not evaluated yet"),
    ([], Verdict.FAIL, "there is no such rule"),
], ids=["one_fits", "none_fits", "the_one_is_broken", "not_yet", "the_one_not_yet", "none"])  # fmt: skip
def test_one_of_the_alert_rules_of_a_name_has_to_be_as_the_plan_wants_it(loaded, verdict, said):
    for order in (loaded, loaded[::-1]):
        found = any_kept(AlertRule(name="HighErrorRate", threshold=0.01), order)
        assert found.verdict is verdict
        assert said in found.reason
