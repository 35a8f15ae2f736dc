"""`make messages`: every message of three deployments, in order: when it was sent, and since when it was true; written
to ``messages.json``.

When it was sent says whoever got it, the recorder. Since when it was true says the record of the deployment, or the
cluster or Airflow where they alone know: the moment that the message tells about, by the step that sent it. Where
there is none, none is made up.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from handover.adapters.postgres import Database
from handover.models.record import IncidentKind, SentMessage
from handover.record.ledger import Ledger, NotRecorded, Record
from sandbox.crowds import Guests
from sandbox.runs import DEPLOYMENT, Team, time_of
from sandbox.services.access import Access
from sandbox.settings import SandboxError

RUNS = {
    "stopped before the cutover": ("v1.5.0", "stopped before the switch"),
    "rolled back after it": ("v1.2.0", "rolled_back"),
    "good": ("v1.1.0", "succeeded"),
}
"""What each shows: a release, and how it ends. The good one is last, since what it leaves serves from then on."""
TRIES = 3
"""Of a run that ends otherwise, because the machine had other things to do."""
CHANGES: dict[str, dict[str, Any]] = {"backup": {"min_bytes": "100KB"}}
"""On top of the sandbox's times: little data."""
FOLLOWUPS = "pms_followups"
GUESTS = 50.0
LATE_SECONDS = 2.0
"""So much later than it was true is late."""
RECORDED_SECONDS = 60.0
TIMEOUT_SECONDS = 1800.0
"""Of a run, on a machine with other things to do."""


@dataclass(frozen=True)
class Fact:
    """What a message tells about, and since when that is so (Unix seconds)."""

    what: str
    at: float


@dataclass(frozen=True)
class Known:
    """What is not in the record: since when traffic is back, and when each question could be answered, by step."""

    back_at: float | None = None
    asked: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    """One message. ``at``: when it arrived, None where it did not. ``true``: None where nothing says it."""

    channel: str
    text: str
    step: str
    at: float | None
    true: Fact | None

    @property
    def lag(self) -> float | None:
        """Seconds that it came after what it tells about; less than none if before."""
        return None if self.at is None or self.true is None else self.at - self.true.at

    @property
    def late(self) -> bool:
        return self.lag is not None and self.lag > LATE_SECONDS


def fact(record: Record, message: SentMessage, known: Known) -> Fact | None:
    """What this message tells about, by the step that sent it."""
    step = message.step.rpartition(".")[2]
    phase = message.step.partition(".")[0]
    outcomes = [one for one in record.outcomes if one.run == message.run]
    switched = next((one.switched_at for one in record.outcomes if one.switched_at), None)
    by_step: dict[str, Callable[[], Fact | None]] = {
        "open": lambda: Fact("it was opened", record.deployment.started_at),
        "announce_start": lambda: _end(record, message, "window_open"),
        "announce_switch": lambda: _at("clients met it", switched),
        "decide": lambda: _end(record, message, phase, "the last step of the phase ended"),
        "announce_success": lambda: _end(record, message, "settle_traffic"),
        "alert_team": lambda: _at("traffic is back", known.back_at) or _end(record, message, "move_traffic_back"),
        "notify": lambda: _end(record, message, "verify_application", "the verification ended"),
        "report": lambda: _at("the run's outcome", outcomes[-1].at if outcomes else None),
    }
    if message.step in known.asked:
        return Fact("the question could be answered", known.asked[message.step])
    return by_step[step]() if step in by_step else None


def _at(what: str, at: float | None) -> Fact | None:
    return None if at is None else Fact(what, at)


def _end(record: Record, message: SentMessage, name: str, what: str = "") -> Fact | None:
    """When the last step of this name, or of this phase, had ended in the message's own run: by its evidence, which is
    older than the end of its task.
    """
    steps = [one for one in record.checks if one.run == message.run and name in (one.name, one.phase)]
    ended = [max((each.at for each in one.measurements if each.at), default=one.at) for one in steps]
    return Fact(what or f"{name} ended", max(ended)) if ended else None


def told(record: Record, calls: Iterable[Mapping[str, Any]], known: Known) -> list[Sent]:
    """Every message on record, and what arrived without being on record, in the order of sending."""
    arrived = list(_arrivals(calls))
    found = []
    for message in record.messages:
        kind = message.channel
        text = message.text.partition("\n")[0] if kind == "e-mail" else message.text
        got = next((one for one in arrived if (one[0], one[1]) == (kind, text)), None)
        if got:
            arrived.remove(got)
        at = got[2] if got else None
        found.append(Sent(kind, _first_line(text), message.step, at, fact(record, message, known)))
    found += [Sent(channel, _first_line(text), "", at, _incident(record, text)) for channel, text, at in arrived]
    return sorted(found, key=lambda one: one.at or float("inf"))


def _incident(record: Record, text: str) -> Fact | None:
    """What the watch tells by itself, which is in the record by its incident alone."""
    opened = (one for one in record.incidents if one.kind is IncidentKind.OPENED)
    at = next((one.at for one in opened if one.text.partition(": ")[2] in text), None)
    return _at("the watch found it", at)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _arrivals(calls: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, float]]:
    """Channel, text (of an e-mail the subject) and time of everything that the recorder got."""
    for call in calls:
        body, at = call["body"] or {}, time_of(call["at"])
        if call["service"] == "slack" and call["path"].endswith("chat.postMessage"):
            yield f"slack {body['channel']}", unescape(body["text"]), at
        elif call["service"] == "statuspage" and call["method"] != "GET":
            yield "status page", body["incident"]["body"], at
        elif call["service"] == "smtp":
            yield "e-mail", body["subject"], at


def play(endpoints: dict[str, Any], home: Path, console: Console, *, markdown: bool) -> bool:
    """Plays the three deployments, writes and prints what was said; whether none of it was late."""
    team = Team(endpoints, lambda text: console.print(f"[dim]{escape(text)}[/dim]"))
    team.admin.pause(FOLLOWUPS)  # two dozen tasks behind every deployment, with words of their own days
    found: dict[str, list[Sent]] = {}
    with Guests(endpoints, home, rate=GUESTS):
        for name, (version, ends) in RUNS.items():
            console.print(f"[bold]{name}[/bold]: {version}")
            found[name] = _played(team, endpoints, version, ends)
            (home / "messages.json").write_text(json.dumps(_as_json(found), indent=1) + "\n")
    for name, sent in found.items():
        if markdown:
            console.print("\n".join(_markdown(name, sent)), markup=False)
        else:
            console.print(_table(name, sent))
    return not any(one.late for sent in found.values() for one in sent)


def _played(team: Team, endpoints: dict[str, Any], version: str, ends: str) -> list[Sent]:
    recorder = httpx.Client(base_url=endpoints["recorder"], trust_env=False)
    for _ in range(TRIES):
        recorder.delete("/recorded").raise_for_status()
        outcome = team.deploy(version, timeout=TIMEOUT_SECONDS)
        last_run = outcome.run_id if outcome.outcome == "succeeded" else f"rollback__{outcome.run_id}"
        record = _recorded(endpoints, outcome.run_id, last_run)
        if str(record.outcomes[-1]) == ends:
            known = Known(_back_at(endpoints), _asked(team, outcome.run_id))
            return told(record, recorder.get("/recorded").raise_for_status().json(), known)
        team.say(f"{version} was to end {ends}: {outcome.outcome}: {outcome.reason}")
    raise SandboxError(f"{version} did not end {ends} in {TRIES} tries")


def _recorded(endpoints: dict[str, Any], deployment: str, last_run: str) -> Record:
    """The record once the last step of its last run is in it, which is written after Airflow knows that it ended."""
    ledger = Ledger(Database.from_uri(endpoints["postgres"]["record"]))
    deadline = time.monotonic() + RECORDED_SECONDS
    while time.monotonic() < deadline:
        record = ledger.read(deployment)
        if any((check.run, check.step) == (last_run, "report") for check in record.checks):
            return record
        time.sleep(0.5)
    raise NotRecorded(f"{last_run}: its report is not on record after {RECORDED_SECONDS:.0f} s")


def _back_at(endpoints: dict[str, Any]) -> float | None:
    with Access(**endpoints["kubernetes"]).client() as kube:
        found = kube.get("/api/v1/namespaces/production/configmaps/pms-deployment").raise_for_status().json()
    back_at = json.loads(found["data"]["state"]).get("back_at")
    return None if back_at is None else float(back_at)


def _asked(team: Team, run_id: str) -> dict[str, float]:
    """When each question of a run was there to be answered, by step."""
    asked = team.admin.asked(DEPLOYMENT, run_id)
    return {one["task_instance"]["task_id"]: time_of(one["created_at"]) for one in asked}


def _as_json(found: Mapping[str, list[Sent]]) -> dict[str, Any]:
    return {name: [asdict(one) | {"lag": one.lag, "late": one.late} for one in sent] for name, sent in found.items()}


def _cells(one: Sent) -> tuple[str, ...]:
    lag = "-" if one.lag is None else f"{one.lag:+.2f} s{' late' if one.late else ''}"
    true = "-" if one.true is None else f"{_clock(one.true.at)} {one.true.what}"
    return one.channel, one.text, _clock(one.at), true, lag


HEAD = ("channel", "message", "sent", "true", "sent after it was true")


def _table(name: str, sent: Iterable[Sent]) -> Table:
    table = Table(*HEAD, title=name)
    for one in sent:
        table.add_row(*map(escape, _cells(one)))
    return table


def _markdown(name: str, sent: Iterable[Sent]) -> Iterator[str]:
    yield from ("", f"**{name.capitalize()}**", "", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|")
    for one in sent:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in _cells(one))} |"


def _clock(at: float | None) -> str:
    return "not delivered" if at is None else f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%H:%M:%S.%f}"[:-4]
