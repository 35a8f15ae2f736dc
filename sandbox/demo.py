"""`make demo`: a good release goes out and a bad one comes back, while guests never stop sending requests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from sandbox.crowds import Guests, seconds_to_traffic_back
from sandbox.runs import DEPLOYMENT, ROLLBACK, Outcome, Team

MIN_REQUESTS = 20_000
GOOD, BAD = "v1.1.0", "v1.2.0"


def demo(endpoints: dict[str, Any], home: Path, console: Console) -> bool:
    """Runs both releases and prints what came of it; writes ``demo.json`` into ``home``. True if all went well."""
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {text}")

    team = Team(endpoints, say)
    before = rows(endpoints["postgres"]["primary"])
    with Guests(endpoints, home) as guests:
        say(f"guests send requests to {endpoints['public']} from now on")
        say(f"[bold]{GOOD}[/bold], a good release")
        good = team.deploy(GOOD)
        say(f"[bold]{BAD}[/bold], which turns to errors after the switch")
        bad = team.deploy(BAD)
        say(f"waiting until the guests have sent {MIN_REQUESTS:,} requests")
        guests.until_sent(MIN_REQUESTS)
    after = rows(endpoints["postgres"]["primary"])
    report = guests.report()
    result = _result(good, bad, report, before, after)
    (home / "demo.json").write_text(json.dumps(result, indent=1) + "\n")
    _print(console, endpoints, result)
    return _as_it_should(result)


def rows(dsn: str) -> dict[str, int]:
    """Rows of every table of the service."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' "
            "AND table_type = 'BASE TABLE' ORDER BY 1"
        ).fetchall()
        return {
            name: connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()[0]  # type: ignore[index]
            for (name,) in tables
        }


def _result(
    good: Outcome, bad: Outcome, report: dict[str, Any], before: dict[str, int], after: dict[str, int]
) -> dict[str, Any]:
    kept = ("sent", "failed", "failed_by_kind", "bad_answers", "bad_by_version", "by_version", "latency_ms")
    return {
        "deployments": [good.as_json(), bad.as_json()],
        "guests": {name: report[name] for name in kept} | {"bad_answers_seconds": report["bad_seconds"]},
        "fault_to_traffic_back_seconds": seconds_to_traffic_back(report, BAD),
        "rows": {name: {"before": before.get(name, 0), "after": count} for name, count in after.items()},
    }


def _as_it_should(result: dict[str, Any]) -> bool:
    good, bad = result["deployments"]
    guests = result["guests"]
    return (
        (good["outcome"], bad["outcome"]) == ("succeeded", "rolled_back")
        and guests["failed"] == 0
        and guests["sent"] >= MIN_REQUESTS
        and set(guests["bad_by_version"]) <= {BAD}
    )


def _print(console: Console, endpoints: dict[str, Any], result: dict[str, Any]) -> None:
    console.print(_deployments(result))
    console.print(_guests(result))
    table = Table("table", "rows before", "rows after", title="Database")
    for name, count in result["rows"].items():
        table.add_row(name, f"{count['before']:,}", f"{count['after']:,}")
    console.print(table)
    airflow = endpoints["airflow"]
    console.print("Questions answered through the REST API, each by a user of the role that was asked:")
    for deployment in result["deployments"]:
        for answer in deployment["answered"]:
            console.print(f"  {deployment['version']}  {answer}")
    console.print(f"\nLook at it: {airflow['url']}/dags/{DEPLOYMENT} and {airflow['url']}/dags/{ROLLBACK}")
    console.print(f"Sign in as {airflow['user']}, password {airflow['password']}; `make down` ends the sandbox.")


def _deployments(result: dict[str, Any]) -> Table:
    table = Table("", *(d["version"] for d in result["deployments"]), title="Deployments")
    phases = sorted({phase for d in result["deployments"] for phase in d["seconds_by_phase"]})
    table.add_row("outcome", *(d["outcome"] for d in result["deployments"]))
    table.add_row("seconds", *(f"{d['seconds']:.1f}" for d in result["deployments"]))
    for phase in phases:
        table.add_row(
            f"  {phase}",
            *(
                f"{d['seconds_by_phase'][phase]:.1f}" if phase in d["seconds_by_phase"] else ""
                for d in result["deployments"]
            ),
        )
    table.add_row(
        "rollback DAG, seconds",
        *(f"{d['rollback_seconds']:.1f}" if d["rollback_seconds"] else "" for d in result["deployments"]),
    )
    table.add_row("reason", *(d["reason"][:160] for d in result["deployments"]))
    return table


def _guests(result: dict[str, Any]) -> Table:
    guests = result["guests"]
    table = Table("guests", "", title="What the guests saw")
    table.add_row("requests sent", f"{guests['sent']:,}")
    table.add_row("failed (refused, reset, cut, timed out)", f"{guests['failed']:,}")
    table.add_row(
        "bad answers, by the bad release itself", f"{guests['bad_answers']:,} in {guests['bad_answers_seconds']} s"
    )
    table.add_row("fault to traffic back", f"{result['fault_to_traffic_back_seconds']} s")
    for version, count in sorted(guests["by_version"].items()):
        table.add_row(f"served by {version or 'nobody'}", f"{count:,}")
    latency = guests["latency_ms"]
    table.add_row("latency p50 / p99 / max", f"{latency['p50']} / {latency['p99']} / {latency['max']} ms")
    return table
