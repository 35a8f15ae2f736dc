"""What GitHub knows of the release: its pull requests, the check runs of its commit, the alerts of its scanners."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from handover.models.evidence import Evidence, Measurement, failed, passed, unknown
from handover.plan.parts import ConnectionId, Items
from handover.readiness import web
from handover.readiness.check import CheckKind, NoAnswer, Scope

Json = Mapping[str, Any]
SOURCE = "GitHub"
PERCENT = re.compile(r"(?<![\d.,+-])(\d+(?:[.,]\d+)?)\s*%")
"""Not one with a sign: that is by how much it has changed."""
OPINIONS = ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")


class GitHubCheck(CheckKind):
    """What these checks share. The release is the tag of its version."""

    connection: ConnectionId
    repository: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]

    def get(self, path: str, **params: Any) -> Any:
        return web.get(self.connection, f"/repos/{self.repository}{path}", params)

    def items(self, path: str, within: str | None = None, **params: Any) -> list[dict[str, Any]]:
        return list(web.items(self.connection, f"/repos/{self.repository}{path}", params, within=within))

    def check_runs(self, scope: Scope) -> list[dict[str, Any]]:
        """The newest run of every check of the release's commit."""
        return self.items(f"/commits/{scope.subject.version}/check-runs", "check_runs", filter="latest")

    def pull_requests(self, scope: Scope) -> tuple[dict[int, dict[str, Any]], list[str]]:
        """The merged pull requests between the version that serves and this one, and commits that none brought."""
        if not scope.subject.previous:
            raise NoAnswer("which version serves now is not known, so neither is what is new")
        commits = self.items(f"/compare/{scope.subject.previous}...{scope.subject.version}", "commits")
        found: dict[int, dict[str, Any]] = {}
        alone = []
        for commit in commits:
            merged = [pull for pull in self.items(f"/commits/{commit['sha']}/pulls") if pull["merged_at"]]
            found |= {pull["number"]: pull for pull in merged}
            if not merged:
                alone.append(commit["sha"][:10])
        return found, alone

    def reviews(self, number: int) -> list[dict[str, Any]]:
        return self.items(f"/pulls/{number}/reviews")


class CheckRuns(GitHubCheck):
    """Every named check of the release's commit has run and succeeded."""

    kind: Literal["check_runs"]
    names: Items

    def look(self, scope: Scope) -> Evidence:
        runs = [run for run in self.check_runs(scope) if run["name"] in self.names]
        return runs_succeeded(self.kind, self.names, runs, self._workflows(runs))

    def _workflows(self, runs: Sequence[Json]) -> dict[int, int]:
        """The workflow of each check suite, asked only where checks share a name; none where we may not read it."""
        if len({run["name"] for run in runs}) == len(runs):
            return {}
        found: dict[int, int] = {}
        with suppress(NoAnswer):
            for sha in {run["head_sha"] for run in runs if run.get("head_sha")}:
                started = self.items("/actions/runs", "workflow_runs", head_sha=sha)
                found |= {one["check_suite_id"]: one["workflow_id"] for one in started}
        return found


def runs_succeeded(
    check: str, names: Iterable[str], runs: Sequence[Json], workflows: Mapping[int, int] | None = None
) -> Evidence:
    """Neutral and skipped are not successes; a run that is missing or has not ended is UNKNOWN. Of checks that share a
    name the newest of each counts, and all of them have to succeed.

    :param workflows: by check suite; a suite of none counts for itself
    """
    last: dict[tuple[Any, ...], Json] = {}
    for run in sorted(runs, key=_begun):
        suite: Any = (run.get("check_suite") or {}).get("id", run.get("id"))
        last[run["name"], (run.get("app") or {}).get("id"), (workflows or {}).get(suite, suite)] = run
    bad: dict[str, None] = {}
    open_: dict[str, None] = {}
    for name in names:
        same = [run for run in last.values() if run["name"] == name]
        if not same:
            open_[f"{name} never ran"] = None
        for run in same:
            if run["status"] != "completed":
                open_[f"{name} is {run['status']}"] = None
            elif run["conclusion"] != "success":
                bad[f"{name}: {run['conclusion']}"] = None
    if bad:
        return failed(check, "; ".join([*bad, *open_]))
    return unknown(check, "; ".join(open_)) if open_ else passed(check, f"succeeded: {', '.join(names)}")


def _begun(run: Json) -> tuple[bool, str, int]:
    """What waits to begin is the newest."""
    return not run.get("started_at"), run.get("started_at") or "", run.get("id") or 0


class Coverage(GitHubCheck):
    """The percentage in the title or summary of the coverage service's check run is above the limit."""

    kind: Literal["coverage"]
    name: str
    above_percent: Annotated[float, Field(ge=0, le=100)]

    def look(self, scope: Scope) -> Evidence:
        run = max((run for run in self.check_runs(scope) if run["name"] == self.name), key=_begun, default=None)
        return coverage(self.kind, self.name, run, self.above_percent)


def coverage(check: str, name: str, run: Json | None, above: float) -> Evidence:
    if run is None or run["status"] != "completed":
        return unknown(check, f"{name} has not run")
    output = run.get("output") or {}
    found = PERCENT.search(f"{output.get('title') or ''} {output.get('summary') or ''}")
    if not found:
        return unknown(check, f"{name} names no percentage")
    percent = float(found.group(1).replace(",", "."))
    measured = Measurement(what="coverage", value=percent, unit="%", source=f"{SOURCE} {name}")
    verdict = passed if percent > above else failed
    return verdict(check, f"{percent:g} %, must be above {above:g} %", measured)


class SecretScanning(GitHubCheck):
    """No open alert of secret scanning. The alerts hold the secrets: only their numbers are shown."""

    kind: Literal["secret_scanning"]

    def look(self, scope: Scope) -> Evidence:
        alerts = self.items("/secret-scanning/alerts", state="open")
        return no_alerts(self.kind, [f"#{int(alert['number'])}" for alert in alerts], "secret scanning")


class CodeScanning(GitHubCheck):
    """Code scanning has looked at the release's commit, and has no open alert of these severities on its branch."""

    kind: Literal["code_scanning"]
    branch: str = "main"
    severities: Items = ("critical", "high")

    def look(self, scope: Scope) -> Evidence:
        ref = f"refs/heads/{self.branch}"
        sha = self.get(f"/commits/{scope.subject.version}")["sha"]
        if not any(found["commit_sha"] == sha for found in self.items("/code-scanning/analyses", ref=ref)):
            return unknown(self.kind, f"code scanning has not looked at {sha[:10]}, the commit of the release")
        alerts = [
            f"#{alert['number']} {alert['rule']['security_severity_level']}"
            for alert in self.items("/code-scanning/alerts", ref=ref, state="open")
            if alert["rule"].get("security_severity_level") in self.severities
        ]
        return no_alerts(self.kind, alerts, f"code scanning ({', '.join(self.severities)})")


def no_alerts(check: str, alerts: Sequence[str], what: str) -> Evidence:
    measured = Measurement(what="open_alerts", value=len(alerts), source=f"{SOURCE} {what}")
    if alerts:
        return failed(check, f"{what}: {len(alerts)} open: {', '.join(alerts[:10])}", measured)
    return passed(check, f"{what}: no open alert", measured)


class PullRequestsApproved(GitHubCheck):
    """Everything new in the release came by pull requests that enough others approved."""

    kind: Literal["pull_requests_approved"]
    approvals: Annotated[int, Field(ge=1)]

    def look(self, scope: Scope) -> Evidence:
        pulls, alone = self.pull_requests(scope)
        lacking = [
            text for number, pull in pulls.items()
            if (text := objection(pull, self.reviews(number), self.approvals))
        ]  # fmt: skip
        lacking += [f"commit {sha} came without a pull request" for sha in alone]
        measured = Measurement(what="pull_requests", value=len(pulls), source=SOURCE)
        if lacking:
            return failed(self.kind, "; ".join(lacking), measured)
        return passed(self.kind, f"{len(pulls)} pull requests, {self.approvals} or more approvals each", measured)


def objection(pull: Json, reviews: Iterable[Json], approvals: int) -> str:
    """Why a pull request does not count as approved, or nothing: the last opinion of each reviewer counts."""
    author = pull["user"]["login"]
    last: dict[str, str] = {}
    for review in sorted(reviews, key=lambda review: review.get("submitted_at") or ""):
        who = (review.get("user") or {}).get("login", "")
        if who and who != author and review["state"] in OPINIONS:
            last[who] = review["state"]
    if against := sorted(who for who, state in last.items() if state == "CHANGES_REQUESTED"):
        return f"#{pull['number']}: {', '.join(against)} asked for changes"
    count = sum(state == "APPROVED" for state in last.values())
    return "" if count >= approvals else f"#{pull['number']}: {count} of {approvals} approvals"


class MigrationsReviewed(GitHubCheck):
    """Every pull request of the release that touches migrations was approved by one of those who must see them."""

    kind: Literal["migrations_reviewed"]
    path: str
    reviewers: Items

    def look(self, scope: Scope) -> Evidence:
        pulls, alone = self.pull_requests(scope)
        if alone:
            return failed(self.kind, f"commits without a pull request: {', '.join(alone)}")
        touching = [number for number in pulls if self._touches(number)]
        lacking = [number for number in touching if not self._seen(number)]
        if lacking:
            numbers = ", ".join(f"#{number}" for number in lacking)
            return failed(self.kind, f"{numbers} changes {self.path} without approval by {' or '.join(self.reviewers)}")
        text = ", ".join(f"#{number}" for number in touching) or "no pull request"
        return passed(self.kind, f"{text} changes {self.path}; reviewed by {' or '.join(self.reviewers)}")

    def _touches(self, number: int) -> bool:
        return any(file["filename"].startswith(self.path) for file in self.items(f"/pulls/{number}/files"))

    def _seen(self, number: int) -> bool:
        by = {review["user"]["login"] for review in self.reviews(number) if review["state"] == "APPROVED"}
        return not by.isdisjoint(self.reviewers)


def migrations_of(connection: str, repository: str, path: str, version: str) -> list[str]:
    """Names of the migrations in the release, oldest first. Raises `NoAnswer`."""
    found = web.get(connection, f"/repos/{repository}/contents/{path.strip('/')}", {"ref": version})
    names = sorted(entry["name"] for entry in found if entry["type"] == "dir")
    if not names:
        raise NoAnswer(f"{repository} {version} has no migration below {path}")
    return names
