"""The checks as Airflow runs them: answers of real servers, and in virtual time of one in memory."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import boto3
import pytest

from handover.checks.client import load, measure_until_good, session
from handover.checks.operators import (
    Baseline,
    CriticalPaths,
    KeyEndpoints,
    Performance,
    RecentErrors,
    ResponseTimes,
)
from handover.checks.sensors import Healthy, StagingHealthy
from handover.coordination import state
from handover.models.evidence import Measurement, Verdict, failed, passed
from handover.models.names import CONNECTIONS, P50, P95, P99, THROUGHPUT
from handover.plan.traffic import Origin
from tests.support.cluster import image
from tests.support.steps import connect_to, opened, release, run
from tests.support.until import until
from tests.support.web import Answer, nobody, serving
from tests.twins.http import TwinServer

pytestmark = pytest.mark.sandbox
ASKED = release("registry.example.com/shop/web:v1.1.0")
USER = {"test_email": "test@example.com", "test_password": "hush-hush"}


@pytest.fixture
def quick(plan):
    performance = plan.performance.model_copy(update={"requests": 20})
    health = plan.health.model_copy(update={"timeout_seconds": 1})
    return plan.model_copy(update={"performance": performance, "health": health})


class Api:
    """A service that can be broken or of another version, and notes how many ask it at once."""

    def __init__(self) -> None:
        self.version, self.broken = "v1.1.0", ""
        self.lock, self.at_once, self.most, self.together = threading.Lock(), 0, 0, 1

    def __call__(self, call):
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        until(lambda: self.most >= self.together, "that so many ask at once")
        try:
            return self.answer(call)
        finally:
            with self.lock:
                self.at_once -= 1

    def answer(self, call):
        headers = {"X-Version": self.version}
        if self.broken and call.path.startswith(self.broken):
            return Answer(500, {"error": "broken"}, headers)
        if call.path == "/auth/login":
            right = call.body == {"email": "test@example.com", "password": "hush-hush"}
            return Answer(200, {"token": "t1"}, headers) if right else Answer(401, {}, headers)
        if call.path == "/health":
            return Answer(401 if "authorization" in call.headers else 200, {}, headers)
        if call.headers.get("authorization") != "Bearer t1":
            return Answer(401, {}, headers)
        if call.method == "GET":
            return Answer(200, [{"id": 3}], headers)
        return Answer(200 if call.path.endswith("check-in") else 201, {"id": 11}, headers)


@pytest.fixture
def api(monkeypatch):
    """A real server behind `pms_api`."""
    made = Api()
    with serving(made) as web:
        made.web = web
        connect_to(monkeypatch, "pms_api", host=web.host, port=web.port, password="admin-token", extra=USER)
        yield made


@pytest.fixture
def served(monkeypatch, virtual_time):
    """The same in memory: every answer takes as long as it says, in virtual time."""
    server = TwinServer(Api().answer, delay=0.05)
    for module in ("client", "triggers"):
        monkeypatch.setattr(f"handover.checks.{module}.session", server.session)
    connect_to(monkeypatch, "pms_api", host="api", port=80, password="admin-token", extra=USER)
    return server


def known(in_cluster, plan):
    return in_cluster(lambda kube: state.read(kube, plan.lock_name))


# --- health


def healthy(plan, **more):
    return Healthy(task_id="health", plan=plan, **{"connection": "pms_api", "path": "/health", **more})


@pytest.mark.plan(
    "Backend Engineer | Application deployment",
    "curl -v https://api.pms.example.com/health",
    'curl -H "Authorization: Bearer $HEALTH_CHECK_TOKEN" https://api.pms',
    "Phase 3: Health checks pass",
)
def test_health_defers_from_the_first_moment_and_keeps_the_admin_token(quick, token, served):
    ran = run(healthy(quick, expect_version=True), token, ASKED)
    assert (ran.evidence.passed, len(ran.triggers)) == (True, 1)
    assert all("authorization" not in call.headers for call in served.asked)


@pytest.mark.plan("curl https://api.pms.example.com/health", "Should return 200 OK from old version")
def test_health_of_the_old_version(quick, token, served):
    ran = run(healthy(quick, expect_version=True, version="old"), token, ASKED)
    assert "answered by v1.1.0 instead of v1.0.0" in str(ran.error)
    served.answer = lambda _: Answer(headers={"X-Version": "v1.0.0"})
    assert run(healthy(quick, expect_version=True, version="old"), token, ASKED).evidence.passed


@pytest.mark.plan('curl -H "Authorization: Bearer $HEALTH_CHECK_TOKEN" https://api-staging')
def test_staging_gets_its_health_token(quick, token, served, monkeypatch):
    connect_to(monkeypatch, "pms_staging", host="staging", port=80, password="health-token")
    served.answer = lambda _: Answer()
    assert run(StagingHealthy(task_id="health", plan=quick), token, ASKED).evidence.passed
    assert served.asked[0].headers["authorization"] == "Bearer health-token"


# --- key endpoints, critical paths


@pytest.mark.plan(
    "Backend Engineer | Application deployment",
    "curl https://api.pms.example.com/bookings",
    "curl https://api.pms.example.com/rooms",
    "curl https://api.pms.example.com/staff",
    "Phase 3: Health checks pass",
)
def test_key_endpoints(plan, token, api):
    ran = run(KeyEndpoints(task_id="key", plan=plan), token, ASKED)
    assert ran.evidence.passed
    assert [m.what for m in ran.evidence.measurements] == ["status /bookings", "status /rooms", "status /staff"]


@pytest.mark.parametrize(
    ("status", "verdict", "said"),
    [
        (204, Verdict.PASS, "204 from v1.1.0"),
        (301, Verdict.PASS, "301 from v1.1.0"),
        (500, Verdict.FAIL, "status 500"),
        (429, Verdict.UNKNOWN, "status 429: the client is refused"),
        (403, Verdict.UNKNOWN, "status 403: the client is refused"),
        (404, Verdict.UNKNOWN, "status 404: not known to be the release's fault"),
    ],
)
def test_what_a_key_endpoint_may_answer(plan, token, api, monkeypatch, status, verdict, said):
    usual = api.answer
    headers = {"X-Version": "v1.1.0"}
    monkeypatch.setattr(
        api, "answer", lambda call: Answer(status, {}, headers) if "/rooms" in call.path else usual(call)
    )
    evidence = run(KeyEndpoints(task_id="key", plan=plan), token, ASKED).evidence
    assert evidence.verdict is verdict
    assert f"/rooms: {said}" in evidence.reason


@pytest.mark.parametrize(("said", "verdict"), [("1.1.0", Verdict.PASS), ("1.0.0", Verdict.FAIL)])
def test_a_version_that_only_one_path_tells_is_asked_for_there(plan, token, api, monkeypatch, said, verdict):
    usual, told = api.answer, Answer(body={"version": said})
    monkeypatch.setattr(api, "answer", lambda call: told if call.path == "/version" else Answer(body=usual(call).body))
    traffic = plan.traffic.model_copy(update={"origin": Origin(field="version", path="/version")})
    telling = plan.model_copy(update={"traffic": traffic})
    evidence = run(KeyEndpoints(task_id="key", plan=telling), token, ASKED).evidence
    assert evidence.verdict is verdict
    assert f"from {said}" in evidence.reason or f"answered by {said} instead of v1.1.0" in evidence.reason


def test_a_service_without_a_login_is_asked_as_nobody(plan, token, api):
    health = plan.health.model_copy(update={"login_path": None, "key_endpoints": (plan.health.path,)})
    anonymous = plan.model_copy(update={"health": health})
    api.broken = plan.health.login_path
    assert run(KeyEndpoints(task_id="key", plan=anonymous), token, ASKED).evidence.passed


@pytest.mark.parametrize("status", [403, 429])
def test_an_edge_that_refuses_our_login_says_nothing_about_the_release(quick, token, api, monkeypatch, status):
    monkeypatch.setattr(api, "answer", lambda _: Answer(status))
    for step in (KeyEndpoints(task_id="key", plan=quick), ResponseTimes(task_id="times", plan=quick)):
        evidence = run(step, token, ASKED).evidence
        assert evidence.verdict is Verdict.UNKNOWN
        assert f"POST /auth/login: status {status}: the client is refused" in evidence.reason


def test_an_edge_that_limits_a_series_leaves_it_without_a_verdict(quick, token, api, monkeypatch):
    usual = api.answer
    monkeypatch.setattr(api, "answer", lambda call: Answer(429) if "/rooms" in call.path else usual(call))
    evidence = run(ResponseTimes(task_id="times", plan=quick), token, ASKED).evidence
    assert evidence.verdict is Verdict.UNKNOWN
    assert "7 of 20 requests were answered by nothing that says anything: GET /rooms: status 429" in evidence.reason


@pytest.mark.plan("Check error rates, performance metrics")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"broken": "/rooms"}, "/rooms: status 500"),
        ({"version": "v1.0.0"}, "answered by v1.0.0 instead of v1.1.0"),
        ({"broken": "/auth"}, "POST /auth/login: 500 for the test user"),
    ],
)
def test_key_endpoints_that_are_wrong(plan, token, api, change, said):
    vars(api).update(change)
    ran = run(KeyEndpoints(task_id="key", plan=plan), token, ASKED)
    assert ran.evidence.verdict is Verdict.FAIL
    assert said in ran.evidence.reason
    assert "hush" not in str(ran.error)


def test_a_connection_without_a_test_user(plan, token, api, monkeypatch):
    connect_to(monkeypatch, "pms_api", host=api.web.host, port=api.web.port)
    for step in (KeyEndpoints, CriticalPaths, ResponseTimes):
        assert "no 'test_email'" in run(step(task_id="check", plan=plan), token, ASKED).evidence.reason


@pytest.mark.plan(
    "curl -X POST https://api.pms.example.com/auth/login",
    "curl -X POST https://api.pms.example.com/bookings -H",
    "curl -X POST https://api.pms.example.com/payments",
    "curl -X POST https://api.pms.example.com/bookings/123/check-in",
)
def test_critical_paths(plan, token, api):
    ran = run(CriticalPaths(task_id="critical", plan=plan), token, ASKED)
    assert ran.evidence.passed
    assert [m.what for m in ran.evidence.measurements] == ["login", "rooms", "booking", "payment", "check_in"]
    assert [(call.method, call.path) for call in api.web.asked] == [
        ("POST", "/auth/login"), ("GET", "/rooms"), ("POST", "/bookings"), ("POST", "/payments"),
        ("POST", "/bookings/11/check-in"),
    ]  # fmt: skip
    assert api.web.asked[2].body["roomId"] == 3
    assert api.web.asked[3].body == {"bookingId": 11, "amount": 100}


@pytest.mark.plan("All critical tests passing")
def test_a_critical_path_that_is_broken(plan, token, api):
    api.broken = "/payments"
    ran = run(CriticalPaths(task_id="critical", plan=plan), token, ASKED)
    assert ran.evidence.verdict is Verdict.FAIL
    assert "payment: POST /payments: 500 instead of 201" in ran.evidence.reason
    assert len(ran.evidence.measurements) == 3


# --- response times, baseline, performance


def test_the_load_is_complete_and_bounded(api):
    api.together = 3  # nobody is answered before so many ask

    async def work():
        async with session(3) as http:
            return await load(http, [(f"{api.web.url}/health", {}), (f"{api.web.url}/none", {})], 30, 3)

    found = asyncio.run(work())
    assert (found.requests, len(found.seconds), api.most) == (30, 15, 3)
    assert set(found.failures) == {"GET /none: status 401"}
    assert all(0 < seconds <= found.elapsed for seconds in found.seconds)


def test_a_series_of_failures_ends_early(api):
    async def work():
        async with session(3) as http:
            return await load(http, [(f"{api.web.url}/none", {})], 200, 3)

    assert 20 < len(asyncio.run(work()).failures) < 30


@pytest.mark.plan(
    "Monitor performance metrics (DataDog/APM)",
    "Check: Response times within normal range",
    "Response times within SLA",
    "Response times normal",
    "Performance within SLA",
)
def test_response_times(quick, token, served):
    ran = run(ResponseTimes(task_id="times", plan=quick), token, ASKED)
    assert ran.evidence.passed
    assert len(served.asked) == 21
    served.delay = 0.25
    assert "p50_seconds 250 ms is not below 200 ms" in str(
        run(ResponseTimes(task_id="times", plan=quick), token, ASKED).error
    )


def test_nothing_that_answers_is_unknown(quick, token, api):
    api.broken = "/"
    for step in (ResponseTimes, Baseline):
        ran = run(step(task_id="times", plan=quick), token, ASKED)
        assert not ran.evidence.passed
        assert "500 for the test user" in ran.evidence.reason


class Given:
    """A source of another concern, as the DAG would give it."""

    name = "given"

    def __init__(self, value: float | None) -> None:
        self.value, self.looks = value, 0

    async def measure(self) -> list[Measurement]:
        self.looks += 1
        if self.value is None:
            raise OSError("away")
        return [Measurement(what=CONNECTIONS, value=self.value * self.looks, source=self.name)]


@pytest.mark.plan(
    "Establish performance baseline",
    "Query response times",
    "API latency percentiles (p50, p95, p99)",
    "Throughput (requests/second)",
)
def test_a_baseline_is_kept_and_merged(in_cluster, quick, served):
    before = {"known": 1.0, P50: 99.0}
    token = in_cluster(lambda kube: opened(kube, quick.lock_name, image("v1.1.0"), baseline=before))
    sources = [Given(5.0), Given(None)]
    ran = run(Baseline(task_id="baseline", plan=quick, sources=lambda plan, known: sources), token, ASKED)
    assert ran.evidence.passed
    kept = known(in_cluster, quick).baseline
    assert set(kept) == {"known", P50, P95, P99, THROUGHPUT, CONNECTIONS}
    assert kept["known"] == 1.0
    assert kept[P50] == pytest.approx(0.05)
    assert kept[THROUGHPUT] == pytest.approx(quick.performance.concurrency / 0.05)
    assert kept[CONNECTIONS] == 10.0


@pytest.mark.plan("Production environment healthy")
def test_a_baseline_of_a_service_that_fails_is_none(in_cluster, quick, token, api):
    api.broken = "/rooms"
    ran = run(Baseline(task_id="baseline", plan=quick), token, ASKED)
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert "GET /rooms: status 500" in ran.evidence.reason
    assert known(in_cluster, quick).baseline == {}


def performance(quick, token):
    return run(Performance(task_id="performance", plan=quick), token, ASKED)


@pytest.mark.plan(
    "Query response times",
    "API latency percentiles (p50, p95, p99)",
    "Throughput (requests/second)",
    "Compare with pre-deployment baseline",
    "Performance acceptable",
)
def test_performance_as_before_slower_and_without_a_baseline(quick, token, served):
    assert performance(quick, token).evidence.verdict is Verdict.UNKNOWN
    run(Baseline(task_id="baseline", plan=quick), token, ASKED)
    assert performance(quick, token).evidence.passed
    asked = len(served.asked)
    served.delay = 0.15
    slow = performance(quick, token)
    assert slow.evidence.verdict is Verdict.FAIL
    assert "worse by more than 50%" in slow.evidence.reason
    assert len(served.asked) - asked == 3 * 21


@pytest.mark.parametrize(("slow_series", "series", "good"), [(0, 1, True), (1, 2, True), (2, 3, True), (3, 3, False)])
def test_only_what_is_bad_in_every_series_is_bad(quick, served, slow_series, series, good):
    given = iter([failed("x", "slow")] * slow_series + [passed("x", "fast")] * 3)
    taken = []

    def judge(one):
        taken.append(one.requests)
        return next(given)

    assert asyncio.run(measure_until_good(quick, judge)).passed is good
    assert taken == [20] * series


# --- staging's logs


KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-central-1"}


@pytest.fixture
def logs(s3_endpoint, monkeypatch):
    connect_to(monkeypatch, "pms_aws", conn_type="aws", extra=KEYS | {"endpoint_url": s3_endpoint})
    return boto3.client("logs", endpoint_url=s3_endpoint, **KEYS)


def recent(plan, token, group):
    staging = plan.staging.model_copy(update={"log_group": group, "max_recent_errors": 2, "recent_seconds": 600})
    changed = plan.model_copy(update={"staging": staging})
    return run(RecentErrors(task_id="recent", plan=changed), token, ASKED).evidence


def put(logs, group, *lines, age=0.0):
    at = int((time.time() - age) * 1000)
    events = [{"timestamp": at, "message": line} for line in lines]
    logs.put_log_events(logGroupName=group, logStreamName="pod", logEvents=events)


@pytest.mark.plan("No recent error spikes in staging logs")
@pytest.mark.parametrize(
    ("errors", "verdict", "said"),
    [
        (0, Verdict.PASS, "0 errors"),
        (2, Verdict.PASS, "2 errors"),
        (3, Verdict.FAIL, "at least 3 errors in the last 10 min"),
    ],
)
def test_recent_errors_in_the_logs(plan, token, logs, errors, verdict, said):
    group = f"/staging/{errors}"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="pod")
    put(logs, group, "ERROR long ago", "ERROR as well", "ERROR too", age=3600)
    put(logs, group, "INFO fine", *[f"ERROR {n}" for n in range(errors)], "INFO fine")
    evidence = recent(plan, token, group)
    assert evidence.verdict is verdict
    assert said in evidence.reason


def test_logs_that_are_not_there_are_unknown(plan, token, logs):
    evidence = recent(plan, token, "/staging/none")
    assert evidence.verdict is Verdict.UNKNOWN
    assert "/staging/none cannot be read" in evidence.reason
    assert evidence.measurements[0].value is None


def test_logs_that_cannot_be_reached_are_unknown(plan, token, monkeypatch):
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))  # between two tries
    with nobody() as (host, port):
        extra = KEYS | {"endpoint_url": f"http://{host}:{port}"}
        connect_to(monkeypatch, "pms_aws", conn_type="aws", extra=extra)
        assert recent(plan, token, "/staging/x").verdict is Verdict.UNKNOWN
