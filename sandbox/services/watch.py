"""The watch beside Airflow: `python -m handover watch`, with the connections that Airflow's processes have."""

from __future__ import annotations

import sys

from sandbox.processes import Process
from sandbox.services.airflow import environment
from sandbox.services.component import Component, Context
from sandbox.settings import REPOSITORY


class Watch(Component):
    """It waits for a deployment by itself, so it is ready when it runs."""

    name = "watch"
    needs = ("airflow", "pms")
    grace_seconds = 5.0

    def start(self, context: Context) -> None:
        settings = context.settings
        context.own(Process(self.name, command(), settings.log(self.name), env=environment(settings)))


def command() -> list[str]:
    return [sys.executable, "-m", "handover", "watch", "--plan", str(REPOSITORY / "include" / "plans" / "pms.yaml")]
