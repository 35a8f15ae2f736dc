"""The error tracker: what is new in a release, and each way in which nobody knows."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from handover.checks import sources
from handover.checks.operators import ErrorTracker
from handover.checks.sources import MAX_PAGES, ErrorTrackerSource
from handover.models.evidence import Verdict
from handover.models.names import NEW_ERRORS
from handover.plan.health import Health
from handover.ports.metrics import NoAnswer
from tests.support.steps import connect_to, release, run
from tests.support.web import Answer, nobody, serving, silent

ASKED = release("registry.example.com/shop/web:v1.1.0")
SECRET = "sentry-t0k3n"
ISSUES, RELEASES = "/api/0/projects/ai-hotel/pms/issues/", "/api/0/projects/ai-hotel/pms/releases/"
CREATED = "2026-11-24T10:00:00Z"


@dataclass
class Sentry:
    """Knows some releases, and issues by the release that they were first seen in. Pages as Sentry does."""

    releases: dict[str, list[dict]] = field(default_factory=dict)
    page: int = 100
    asked: list = field(default_factory=list)

    def __call__(self, asked) -> Answer:
        self.asked.append(asked)
        where = urlsplit(asked.path)
        if where.path.startswith(RELEASES):
            name = unquote(where.path.removeprefix(RELEASES).rstrip("/"))
            known = name in self.releases
            return Answer(200, {"version": name, "dateCreated": CREATED}) if known else Answer(404, {"detail": "no"})
        query = {key: values[0] for key, values in parse_qs(where.query).items()}
        release = query["query"].removeprefix('is:unresolved first-release:"').removesuffix('"')
        begin = int(query.get("cursor", "0"))
        found = self.releases[release][begin : begin + self.page]
        more = "true" if len(self.releases[release]) > begin + self.page else "false"
        link = f'<https://elsewhere.example.com/>; rel="next"; results="{more}"; cursor="{begin + self.page}"'
        return Answer(200, found, {"Link": link})


@pytest.fixture
def look(plan, monkeypatch):
    """What the source says of v1.1.0, with these changes of section ``health``."""

    def ask(answer, **health):
        changed = plan.model_copy(update={"health": plan.health.model_copy(update=health)})

        async def work():
            source = ErrorTrackerSource(changed, "v1.1.0")
            try:
                return await source.measure()
            finally:
                await source.close()

        with serving(answer) as web:
            connect_to(monkeypatch, "pms_sentry", host=web.host, port=web.port, password=SECRET)
            (found,) = asyncio.run(work())
            return found

    return ask


def count(found) -> float | None:
    assert found.what == NEW_ERRORS
    return found.value


def test_what_is_first_seen_in_the_release_counts_and_nothing_else(look):
    sentry = Sentry({"v1.0.0": [{}] * 7, "v1.1.0": [{}, {}]})
    found = look(sentry)
    assert (count(found), found.source) == (2, "error_tracker pms_sentry v1.1.0")
    assert all(call.headers["authorization"] == f"Bearer {SECRET}" for call in sentry.asked)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("{version}", "v1.1.0"), ("shop@{number}", "shop@1.1.0"), ("shop@{version}+7", "shop@v1.1.0+7")],
)
def test_the_plan_says_what_the_tracker_calls_a_release(look, pattern, name):
    assert count(look(Sentry({name: [{}]}), error_tracker_release=pattern)) == 1
    with pytest.raises(NoAnswer, match="pms_sentry: the error tracker knows no release"):
        look(Sentry({"another": []}), error_tracker_release=pattern)


def test_an_issue_that_is_older_than_the_release_was_not_first_seen_in_it(look):
    """A tracker that does not know our filter gives every issue that fires."""
    issues = [{"firstSeen": "2026-08-24T09:00:00Z"}, {"firstSeen": "2026-11-24T10:05:00Z"}, {"firstSeen": "nonsense"}]
    assert count(look(Sentry({"v1.1.0": issues}))) == 2


def test_every_page_counts_up_to_more_than_anybody_allows(look):
    assert count(look(Sentry({"v1.1.0": [{}] * 250}))) == 250
    sentry = Sentry({"v1.1.0": [{}] * 5000})
    assert count(look(sentry)) == MAX_PAGES * 100
    assert {call.headers["host"].partition(":")[0] for call in sentry.asked} == {"127.0.0.1"}


def test_the_release_is_asked_for_until_it_is_known_and_then_no_more(plan, monkeypatch):
    sentry = Sentry()

    async def work():
        source = ErrorTrackerSource(plan, "v1.1.0")
        with pytest.raises(NoAnswer, match="knows no release"):
            await source.measure()
        sentry.releases["v1.1.0"] = [{}]
        found = [await source.measure() for _ in range(2)]
        await source.close()
        await source.close()
        return [one[0].value for one in found]

    with serving(sentry) as web:
        connect_to(monkeypatch, "pms_sentry", host=web.host, port=web.port)
        assert asyncio.run(work()) == [1, 1]
    assert sum(call.path.startswith(RELEASES) for call in sentry.asked) == 2


def after_the_release(answer: Answer):
    return lambda asked: answer if asked.path.startswith(ISSUES) else Answer(200, {"version": "v1.1.0"})


ENDLESS = Answer(200, [{}], {"Link": '<https://x/?cursor=a>; rel="next"; results="true"; cursor="a"'})


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(401, {"detail": SECRET}), "401, the connection's credentials are refused"),
        (Answer(403), "403, the connection's credentials are refused"),
        (Answer(429), "rate limit reached, try again later"),
        (Answer(429, headers={"Retry-After": "30"}), "rate limit reached, try again in 30 s"),
        (Answer(503), "status 503"),
        (Answer(302, headers={"Location": "https://login.example.com/"}), "302, a redirect, which is not followed"),
        (Answer(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"}), "the answer is not JSON (text/html)"),
        (Answer(200, b""), "the answer is not JSON"),
        (Answer(200, b"[" * 100_000), "the answer is not JSON"),
        (Answer(200, b'"' + b"x" * 10_000_000 + b'"'), "the answer is larger than 1 MB"),
        (Answer(200, 7), "something else than a"),
        (Answer(200, ["one"]), "something else than a"),
    ],
)
def test_what_is_no_answer_is_no_data_with_the_reason(look, answer, said, both):
    with pytest.raises(NoAnswer) as silence:
        look((lambda _: answer) if both else after_the_release(answer))
    assert said in str(silence.value)
    assert str(silence.value).startswith("pms_sentry: ")
    assert SECRET not in str(silence.value)


def test_pages_without_an_end_are_no_data(look):
    with pytest.raises(NoAnswer, match="pages have no end"):
        look(after_the_release(ENDLESS))


def test_a_tracker_that_hangs_is_no_data_in_time(plan, monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT_SECONDS", 0.2)
    with silent() as (host, port):
        connect_to(monkeypatch, "pms_sentry", host=host, port=port)
        with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
            asyncio.run(ErrorTrackerSource(plan, "v1.1.0").measure())


def test_a_tracker_that_takes_its_time_with_each_page_is_no_data_in_time(plan, monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT_SECONDS", 0.3)
    over, sentry = threading.Event(), Sentry({"v1.1.0": [{}] * 5000})

    def slow(asked):
        over.wait(0.2)
        return sentry(asked)

    with serving(slow) as web:
        connect_to(monkeypatch, "pms_sentry", host=web.host, port=web.port)
        with pytest.raises(NoAnswer, match=r"not all within 0\.6 s|no answer within 0\.3 s"):
            asyncio.run(ErrorTrackerSource(plan, "v1.1.0").measure())
        over.set()


def test_a_version_that_cannot_stand_in_a_query_is_no_data(plan):
    with pytest.raises(NoAnswer, match="cannot stand in a query"):
        asyncio.run(ErrorTrackerSource(plan, 'v1" OR level:error').measure())


# --- the step


@pytest.mark.plan(
    "Monitor error rates (Sentry)", "Check: New errors should be 0 or very minimal", "No new errors in error tracker",
    "No new issues in error tracker", "Monitor error tracking service (Sentry)",
)  # fmt: skip
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Sentry({"v1.1.0": []}), Verdict.PASS),
        (Sentry({"v1.0.0": [{}], "v1.1.0": []}), Verdict.PASS),
        (Sentry({"v1.1.0": [{}]}), Verdict.FAIL),
        (Sentry({}), Verdict.UNKNOWN),
        (lambda _: Answer(503), Verdict.UNKNOWN),
    ],
)
def test_the_step(plan, token, monkeypatch, answer, verdict):
    with serving(answer) as web:
        connect_to(monkeypatch, "pms_sentry", host=web.host, port=web.port)
        assert run(ErrorTracker(task_id="errors", plan=plan), token, ASKED).evidence.verdict is verdict


def test_a_tracker_that_is_away_is_unknown(plan, token, monkeypatch):
    with nobody() as (host, port):
        connect_to(monkeypatch, "pms_sentry", host=host, port=port)
        assert run(ErrorTracker(task_id="errors", plan=plan), token, ASKED).evidence.verdict is Verdict.UNKNOWN


# --- the plan


def health(plan, **changes) -> Health:
    return Health.model_validate(plan.health.model_dump() | changes)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({}, f"{RELEASES}{{release}}/"),
        ({"error_tracker_path": "/organizations/o/issues/?project=7"}, "/organizations/o/releases/{release}/"),
        ({"error_tracker_release_path": "/releases?name={release}"}, "/releases?name={release}"),
    ],
)
def test_where_a_release_is_looked_for(plan, changes, path):
    assert health(plan, **changes).release_path == path


@pytest.mark.parametrize(
    "changes",
    [
        {"error_tracker_release": "shop"},
        {"error_tracker_release": "shop@{ver}"},
        {"error_tracker_release": "{version}{colour"},
        {"error_tracker_release_path": "/releases/"},
        {"error_tracker_path": "/api/bugs"},
    ],
)
def test_a_release_that_nobody_could_find_is_an_error_of_the_plan(plan, changes):
    with pytest.raises(ValueError, match=r"error_tracker|release"):
        health(plan, **changes)
