"""A stand-in production on this machine: the hotel system, its databases, a cluster, Airflow and all they talk to."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from sandbox import endpoints, state
from sandbox.overlays import OVERLAY, write_overlay
from sandbox.processes import kill_sessions
from sandbox.settings import REPOSITORY, FileLock, SandboxError

DOWN_SECONDS = 90
NOT_RUNNING = 3
STAND_IN, REAL = "stand-in", "kubernetes"
TRAFFIC = "PYTHONPATH=plugins .venv/bin/python -m handover status --plan include/plans/pms.yaml"
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Command:
    """A sub-command: `options` adds its own to the parser (it has --home already), `run` gives the exit code."""

    help: str
    run: Callable[[argparse.Namespace], int]
    options: Callable[[argparse.ArgumentParser], None] = lambda _: None


def _up_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overlay", type=Path, help="YAML file laid over the plan: compresses its times")
    parser.add_argument("--small", action="store_true", help="little hotel data")
    parser.add_argument("--keep-logs", action="store_true", help="leave the logs there when it is stopped")
    parser.add_argument("--only", nargs="+", metavar="PART", help="only these parts, and what they need")
    _cluster_option(parser)


def up(given: argparse.Namespace) -> int:
    """Start everything and leave it running."""
    home: Path = given.home.resolve()
    if _owner_alive(home) and (found := endpoints.read(home)):
        out.print(f"Already up in {home}.")
        _print_addresses(found, home)
        return 0
    if given.overlay and not given.overlay.is_file():
        err.print(f"[red]There is no overlay {given.overlay}.[/]")
        return 2
    argv = [sys.executable, "-m", "sandbox.supervisor", "--home", str(home)]
    argv += ["--overlay", str(given.overlay.resolve())] if given.overlay else []
    argv += ["--cluster", str(cluster)] if (cluster := _cluster(given)) else []
    argv += ["--small"] if given.small else []
    argv += ["--keep-logs"] if given.keep_logs else []
    argv += ["--only", *given.only] if given.only else []
    supervisor = subprocess.Popen(
        argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    try:
        failure = _follow(supervisor)
    except KeyboardInterrupt:
        err.print("Stopping what has been started ...")
        supervisor.terminate()
        supervisor.wait()
        return 130
    if failure:
        err.print(f"[red]Not up:[/] {escape(failure)}")
        supervisor.wait()
        return 1
    _print_addresses(endpoints.read(home) or {}, home)
    return 0


def _cluster_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", default=STAND_IN, metavar="WHICH",
        help=f"{STAND_IN} (default), {REAL} (a real one, started in the same home if it is not up), or a file that "
        "describes another one (docs/cluster.md)",
    )  # fmt: skip


def _cluster(given: argparse.Namespace) -> Path | None:
    """The description of the real cluster that was asked for."""
    from sandbox import kubernetes

    if given.cluster == STAND_IN:
        return None
    if given.cluster == REAL:
        return kubernetes.ensure_up(given.home.resolve())
    path = Path(given.cluster).resolve()
    if not path.is_file():
        raise SandboxError(f"There is no cluster {given.cluster}: expected {STAND_IN}, {REAL}, or a file.")
    return path


def _follow(supervisor: subprocess.Popen[str]) -> str:
    """Show the components becoming ready; gives why it failed, or nothing when all is up."""
    begin, starting = time.monotonic(), set[str]()
    assert supervisor.stdout is not None
    with out.status("Starting ...") as status:
        for line in supervisor.stdout:
            message: dict[str, Any] = json.loads(line)
            if "error" in message:
                return str(message["error"])
            if "up" in message:
                out.print(f"Up after {time.monotonic() - begin:.1f} s.")
                return ""
            if message["warning"]:
                out.print(f"  [yellow]{message['component']}: {escape(message['warning'])}[/]")
            elif message["seconds"] is None:
                starting.add(message["component"])
            else:
                starting.discard(message["component"])
                out.print(f"  {message['component']:<10} ready after {message['seconds']:4.1f} s")
            status.update(f"Starting {', '.join(sorted(starting))} ...")
    return f"the supervisor ended with code {supervisor.wait()}"


def down(given: argparse.Namespace) -> int:
    """Stop everything and remove it."""
    home: Path = given.home.resolve()
    found = state.State.read(home)
    if found is None and not (home / state.RUN).exists():
        out.print(f"Nothing is up in {home}.")
        return 0
    begin = time.monotonic()
    if found and found.owner.alive:
        with out.status("Stopping ..."):
            _end(found.owner)
    elif lock := FileLock.take(home / state.LOCK):  # it died without a word, or left its logs
        state.clear(home)
        lock.release()
    state.remove_if_empty(home)
    out.print(f"Down after {time.monotonic() - begin:.1f} s.")
    return 0


def _end(owner: state.Identity) -> None:
    os.kill(owner.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while owner.alive:
        if time.monotonic() > deadline:
            err.print(f"The supervisor does not end within {DOWN_SECONDS} s: killing it.")
            kill_sessions([owner.pid])
            return
        time.sleep(0.05)


def status(given: argparse.Namespace) -> int:
    """Show what runs: exit code 0 when all of it does, 1 when something has ended, 3 when nothing is up."""
    home: Path = given.home.resolve()
    found = state.State.read(home)
    if found is None or not found.owner.alive:
        out.print(f"Nothing is up in {home}.")
        return NOT_RUNNING
    for name, process in found.processes.items():
        mark = "[green]runs[/]" if process.alive else "[red]ended[/]"
        out.print(f"  {name:<22} {process.pid:>8}  {mark}")
    if described := endpoints.read(home):
        _print_addresses(described, home)
    else:
        out.print("It is still starting.")
    return 0 if all(process.alive for process in found.processes.values()) else 1


def _owner_alive(home: Path) -> bool:
    found = state.State.read(home)
    return found is not None and found.owner.alive


def _print_addresses(found: endpoints.Endpoints, home: Path) -> None:
    airflow = found["airflow"]
    out.print(f"Airflow    {airflow['url']}   user {airflow['user']}, password {airflow['password']}")
    out.print(f"PMS        {found['public']}")
    out.print(f"kubectl    export KUBECONFIG={found['kubeconfig']}")
    out.print(f"Traffic    {TRAFFIC} --kubeconfig {found['kubeconfig']}")
    out.print(f"The rest   {home / endpoints.FILE} (passwords of the other users, DSNs, S3, recorder)")
    out.print(f"Users      {', '.join(airflow['users'])}: one for each role")
    out.print("Next       trigger pms_deployment as lead: v1.1.0 is good, v1.2.0 turns bad. `make down` ends it all.")
    out.print(f"Times are the plan's, unless `--overlay {OVERLAY.relative_to(REPOSITORY)}` compresses them.")


def _ensure_up(given: argparse.Namespace, *, overlay: Path = OVERLAY, small: bool = False) -> float | None:
    """Seconds that it took to bring the sandbox up (0.0 when it was), or None when it failed.

    :param small: with little data
    """
    if _owner_alive(given.home.resolve()):
        return 0.0
    begin = time.monotonic()
    request = argparse.Namespace(
        home=given.home, cluster=given.cluster, overlay=overlay, small=small, keep_logs=False, only=None
    )
    return time.monotonic() - begin if up(request) == 0 else None


def demo(given: argparse.Namespace) -> int:
    """A good release goes out, a bad one comes back; the sandbox stays up to be looked at."""
    from sandbox.demo import demo as run

    if _ensure_up(given) is None:
        return 1
    found = endpoints.read(given.home) or {}
    return 0 if run(found, given.home.resolve(), out) else 1


def bench(given: argparse.Namespace) -> int:
    """Measure on a sandbox that was started for it: the second start of two is the cached one."""
    from sandbox.bench import bench as run

    if _owner_alive(given.home.resolve()):
        raise SandboxError(f"A sandbox is up in {given.home}: `down` first, as its start is measured too.")
    if _ensure_up(given) is None:
        return 1
    down(given)
    seconds = _ensure_up(given)
    if seconds is None:
        return 1
    try:
        return 0 if run(endpoints.read(given.home) or {}, given.home.resolve(), out, seconds) else 1
    finally:
        down(given)


def bench_watch(given: argparse.Namespace) -> int:
    """Break the new version at every moment of a deployment, on a sandbox that was started for it."""
    from sandbox.bench_watch import CHANGES
    from sandbox.bench_watch import bench as run

    home = given.home.resolve()
    return _on_its_own(given, "bench-watch", CHANGES, lambda found: run(found, home, out, given.rounds, given.only))


def _on_its_own(
    given: argparse.Namespace, name: str, changes: dict[str, dict[str, Any]], run: Callable[[endpoints.Endpoints], bool]
) -> int:
    """Runs it on a sandbox that was started for it, with these changes of every plan and little data."""
    if _owner_alive(given.home.resolve()):
        raise SandboxError(f"A sandbox is up in {given.home}: `down` first, its release may be the new one already.")
    overlay = write_overlay(given.home / f"{name}.yaml", changes)
    if _ensure_up(given, overlay=overlay, small=True) is None:
        return 1
    try:
        return 0 if run(endpoints.read(given.home) or {}) else 1
    finally:
        down(given)


def _bench_watch_options(parser: argparse.ArgumentParser) -> None:
    _cluster_option(parser)
    parser.add_argument("--rounds", type=int, default=3, help="of each moment (3)")
    parser.add_argument("--only", action="append", default=[], metavar="MOMENT", help="may be given several times")


def messages(given: argparse.Namespace) -> int:
    """What people are told in three deployments, and when it was true, on a sandbox that was started for it."""
    from sandbox.messages import CHANGES, play

    home = given.home.resolve()
    return _on_its_own(given, "messages", CHANGES, lambda found: play(found, home, out, markdown=given.markdown))


def _messages_options(parser: argparse.ArgumentParser) -> None:
    _cluster_option(parser)
    parser.add_argument("--markdown", action="store_true", help="as tables for a page")


def cutover(given: argparse.Namespace) -> int:
    """Switch and roll back many times in a row under load, on a sandbox without Airflow that was started for it."""
    from sandbox.cutover import measure

    if _owner_alive(given.home.resolve()):
        raise SandboxError(f"A sandbox is up in {given.home}: `down` first, as both would need the same namespaces.")
    return 0 if measure(given.home.resolve(), _cluster(given), out) else 1


def _bench_cluster_options(parser: argparse.ArgumentParser) -> None:
    _cluster_option(parser)
    from sandbox.argo.comparison import Cause

    parser.add_argument("--rounds", type=int, default=5, help="of each line and each side (5)")
    parser.add_argument(
        "--only", action="append", default=[], type=Cause, choices=list(Cause), help="may be given several times"
    )


def bench_cluster(given: argparse.Namespace) -> int:
    """Measure our rollback beside Argo Rollouts' on a real cluster, on a sandbox that was started for it."""
    from sandbox.bench_cluster import measure

    if _owner_alive(given.home.resolve()):
        raise SandboxError(f"A sandbox is up in {given.home}: `down` first, as both would need the same namespaces.")
    return 0 if measure(given.home.resolve(), _cluster(given), out, given.rounds, given.only) else 1


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["cluster", "compose"])


def check(given: argparse.Namespace) -> int:
    """Say what this machine lacks for a part of the tests: exit code 0 when it lacks nothing, else 1."""
    from sandbox import docker, images, kubernetes

    missing = docker.requirements() if given.what == "compose" else kubernetes.requirements() + images.requirements()
    tests = "docker-compose.yaml" if given.what == "compose" else "the real cluster"
    if missing:
        out.print(f"[yellow]The tests of {tests} are skipped on this machine:[/]")
        for sentence in dict.fromkeys(missing):
            out.print(f"  - {escape(sentence)}")
    return 1 if missing else 0


def bench_import(given: argparse.Namespace) -> int:
    """Measure the import of a CSV file beside PostgreSQL's own COPY, on a server that was started for it."""
    from sandbox.bench_import import bench as run

    return 0 if run(given.home.resolve(), out, given.rows, given.rounds) else 1


def _bench_import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)


COMMANDS: dict[str, Command] = {
    "up": Command("start everything and leave it running", up, _up_options),
    "down": Command("stop everything and remove it", down),
    "status": Command("what runs, and where", status),
    "demo": Command("a good release goes out, a bad one comes back", demo, _cluster_option),
    "bench": Command("measure it", bench, _cluster_option),
    "cutover": Command("switch and roll back many times in a row under load", cutover, _cluster_option),
    "bench-watch": Command("break the new version at every moment", bench_watch, _bench_watch_options),
    "messages": Command("every message of three deployments, when it was sent and true", messages, _messages_options),
    "bench-cluster": Command("measure it beside Argo Rollouts", bench_cluster, _bench_cluster_options),
    "check": Command("what this machine lacks for a part of the tests", check, _check_options),
    "bench-import": Command("measure the import of a CSV file", bench_import, _bench_import_options),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        sub.add_argument("--home", type=Path, default=Path(".sandbox"), help="folder of this sandbox")
        command.options(sub)
        sub.set_defaults(run=command.run)
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except SandboxError as error:
        err.print(f"[red]{escape(str(error))}[/]")
        return 1
