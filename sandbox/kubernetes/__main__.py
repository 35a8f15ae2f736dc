"""`python -m sandbox.kubernetes up|down|status`: a real Kubernetes of one node on this machine."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from sandbox.kubernetes import Cluster, Kubernetes, description, ensure_up, is_up, processes
from sandbox.settings import SandboxError

NOT_RUNNING = 3
MEGABYTE = 1_000_000


def up(home: Path, as_json: bool) -> int:
    """Start it, and leave it running."""
    was_up, begin = is_up(home), time.monotonic()
    cluster = Cluster.read(ensure_up(home, tell=lambda line: print(f"  {line}", file=sys.stderr)))
    if not as_json:
        print(f"Already up in {home}." if was_up else f"Up after {time.monotonic() - begin:.1f} s.")
    return _show(cluster, as_json)


def down(home: Path, as_json: bool) -> int:
    """Stop it, and remove everything."""
    begin = time.monotonic()
    Kubernetes(home).stop()
    print(json.dumps({"up": False}) if as_json else f"Down after {time.monotonic() - begin:.1f} s.")
    return 0


def status(home: Path, as_json: bool) -> int:
    """Show what runs: exit code 0 when all of it does, 1 when a component is missing, 3 when the cluster is down."""
    if not is_up(home):
        print(json.dumps({"up": False}) if as_json else f"Nothing is up in {home}.")
        return NOT_RUNNING
    return _show(Cluster.read(description(home)), as_json)


def _show(cluster: Cluster, as_json: bool) -> int:
    running, used = cluster.processes, processes.memory(cluster.init_pid)
    if as_json:
        # The password stays in the file, which only its owner can read.
        told = {name: value for name, value in asdict(cluster).items() if name != "registry_password"}
        print(json.dumps({"up": True, **told, "processes": running, "memory_bytes": used}))
    else:
        for name in (*processes.COMPONENTS, processes.SHIMS, processes.PODS, processes.INIT):
            pid = running.get(name, "" if name not in processes.COMPONENTS else "ended")
            print(f"  {name:<24} {pid:>8}  {used.get(name, 0) / MEGABYTE:6.0f} MB")
        print(f"  {'in all':<24} {'':>8}  {sum(used.values()) / MEGABYTE:6.0f} MB")
        print(f"kubectl    export KUBECONFIG={cluster.kubeconfig}")
        print(f"Registry   {cluster.registry_url}, pulled from as {', '.join(cluster.registry_mirrors)}")
        print(f"Node       {cluster.node}   (its namespaces: nsenter --target {cluster.init_pid})")
    return 0 if len(running) == len(processes.COMPONENTS) else 1


COMMANDS = {"up": up, "down": down, "status": status}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.kubernetes", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--home", type=Path, default=Path(".sandbox"), help="default: .sandbox")
    parser.add_argument("--json", action="store_true", help="tell the outcome as JSON")
    given = parser.parse_args()
    try:
        return COMMANDS[given.command](given.home.resolve(), given.json)
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
