"""Which Job belongs to which try of a step that runs a release's command.

A step may be killed half-way and run again; then the Job that it started goes on and is found again, instead
of the command running twice. A step that is run again after its answer was read (somebody cleared the task)
asks anew. So attempts are counted in the cluster, not by Airflow, whose try number also grows when a worker is
killed: a Job whose answer was read is marked, and an attempt is the first number whose Job is not marked.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from handover.kube import jobs

if TYPE_CHECKING:
    from handover.plan.model import Cluster
    from handover.ports.kube import Kube

ANSWERED = "handover/answered"
"""Annotation of a Job whose answer was read by its step."""


async def submit(kube: Kube, cluster: Cluster, command: jobs.Command) -> str:
    """Starts the command whose ``key`` names the step, or finds the Job of a killed try; gives its name."""
    for attempt in count(1):
        tried = replace(command, key=f"{command.key}/{attempt}")
        found = await kube.find(jobs.JOBS, tried.job_name)
        if found is None or ANSWERED not in (found["metadata"].get("annotations") or {}):
            return await jobs.submit(kube, cluster, tried)
    raise AssertionError("unreachable")


async def answered(kube: Kube, name: str) -> None:
    """Marks the Job: its answer was read. One that is gone already is fine."""
    if await kube.find(jobs.JOBS, name):
        await kube.merge(jobs.JOBS, name, {"metadata": {"annotations": {ANSWERED: "true"}}})


def filled(text: str, **values: str) -> str:
    """The text with ``{name}`` replaced for every name given; every other brace stays."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def last_words(output: str, lines: int = 5, characters: int = 600) -> str:
    """The end of what a command printed, on one line."""
    kept = [line.strip() for line in output.splitlines() if line.strip()][-lines:]
    return " | ".join(kept)[-characters:]
