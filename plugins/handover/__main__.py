"""``python -m handover COMMAND``: what works without a running Airflow. With ``--help`` a command says the rest.

Exit codes of every command: 0 done, 1 refused and nothing changed (the text says why), 2 something did not answer, or a
wrong command line.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from pathlib import Path

UNANSWERED = 2

COMMANDS = {
    "adopt": ("adopt", "draft the plan of a service that runs already"),
    "prepare": ("prepare", "bring an adopted service to two colours, without a request lost"),
    "check": ("check", "say what is wrong with plan files, and what they come to"),
    "back": ("traffic", "move traffic back to the previous version, now"),
    "status": ("traffic", "where traffic is, and which deployment is under way"),
    "watch": ("watch", "watch deployments beside Airflow, and take a bad version off whoever in Airflow is dead"),
    "accounts": ("accounts", "make the roles and the accounts of Airflow, or make them as they should be"),
    "rbac": ("permissions", "print the manifest of what the deployer may do in the cluster"),
    "permissions": ("permissions", "ask the cluster whether the deployer may do all that"),
    "rehearse": ("rehearse", "try a release's migrations on a copy of last night's data"),
    "readiness": ("readiness", "print the checklist before a deployment: line, what judges it, owner"),
    "record": ("record", "read the record of deployments, lay its tables"),
}


def main(argv: list[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__)
        print("\n".join(f"  {command:<12} {what}" for command, (_, what) in COMMANDS.items()))
        return 0
    if name not in COMMANDS:
        print(f"there is no command {name!r}; one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        module = import_module(f"handover.cli.{COMMANDS[name][0]}")
        return int(module.main(name, rest))
    except Exception as error:  # its text may hold a secret, and a traceback's exit code would say "refused"
        frames = traceback.extract_tb(error.__traceback__)
        where = next((one for one in reversed(frames) if "handover" in one.filename), frames[-1])
        print(f"failed: {type(error).__name__} in {Path(where.filename).name}, line {where.lineno}", file=sys.stderr)
        return UNANSWERED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
