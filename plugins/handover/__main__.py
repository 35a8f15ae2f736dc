"""``python -m handover COMMAND``: what works without a running Airflow. With ``--help`` a command says the rest.

Exit codes of every command: 0 done, 1 refused and nothing changed (the text says why), 2 something did not answer, or a
wrong command line.
"""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "check": ("check", "say what is wrong with plan files, and what they come to"),
    "back": ("traffic", "move traffic back to the previous version, now"),
    "status": ("traffic", "where traffic is, and which deployment is under way"),
    "watch": ("watch", "watch deployments beside Airflow, and take a bad version off whoever in Airflow is dead"),
    "rbac": ("permissions", "print the manifest of what the deployer may do in the cluster"),
    "permissions": ("permissions", "ask the cluster whether the deployer may do all that"),
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
    module = import_module(f"handover.cli.{COMMANDS[name][0]}")
    return int(module.main(name, rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
