"""What is really there: the tasks of the DAGs and the functions of the tests."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.definitions.mappedoperator import MappedOperator


class Kind(StrEnum):
    """Who does what a task is there for. HANDED: the task gives it to people, as a ticket or an invitation."""

    AUTOMATED = "automated"
    ASKED = "asked"
    HANDED = "handed over"


@dataclass(frozen=True)
class Task:
    """``id``: ``<dag>.<task>``; ``who``: the role that is asked; ``wording``: all that it reads in the question."""

    id: str
    kind: Kind
    how: str
    who: str = ""
    wording: str = ""


def tasks(folder: Path) -> dict[str, dict[str, Task]]:
    """DAG id to its tasks by their ids. Raises `ValueError` when a file cannot be imported."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(folder, bundle_path=folder)
    if bag.import_errors:
        raise ValueError(f"DAG files that cannot be imported: {bag.import_errors}")
    return {name: {task.task_id: _task(name, task) for task in dag.tasks} for name, dag in bag.dags.items()}


def _task(dag: str, task: BaseOperator | MappedOperator) -> Task:
    from airflow.providers.standard.operators.hitl import HITLOperator

    from handover.people.operators import OpenTicket
    from handover.workflows.followups.steps import Invite, Ticket
    from handover.workflows.watch.incident_steps import DocumentIncidents

    name, how = f"{dag}.{task.task_id}", _first_sentence(type(task).__doc__ or "")
    if isinstance(task, HITLOperator):
        fields = " ".join(f"{key} {task.params.get_param(key).schema.get('title', '')}" for key in task.params)
        who = task.assigned_users[0]["name"] if task.assigned_users else "anybody"
        return Task(name, Kind.ASKED, how, who, f"{task.subject}\n{task.body or ''}\n{fields}")
    handed = isinstance(task, (Ticket, Invite, OpenTicket, DocumentIncidents))
    return Task(name, Kind.HANDED if handed else Kind.AUTOMATED, how)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split()).replace("``", "`")
    head, end, _ = paragraph.partition(". ")
    return head + (end.strip() if end else "")


def tests(folder: Path) -> set[str]:
    """``<file below the folder, without .py>::<function>`` of every test, without importing any."""
    return {
        f"{path.relative_to(folder).with_suffix('')}::{node.name}"
        for path in sorted(folder.rglob("test_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test")
    }
