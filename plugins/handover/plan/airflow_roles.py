"""What people and machines may do in Airflow, as roles of its auth manager: data, and nothing that a role need not do.

Everybody has Airflow's own role `VIEWER` beside these, which sees everything but connections and variables. Nobody but
`ADMIN` edits XComs, variables or connections, marks or clears tasks, or pauses a DAG. Who answers which question is no
matter of roles: the plan's team says it, and Airflow holds each question to that.
"""

from __future__ import annotations

from collections.abc import Iterable

from handover.plan.model import Plan

Right = tuple[str, str]
"""What is done, and to what, by Airflow's names. Of one DAG: ``<what>:<dag>``, see `of_dag`."""

VIEWER, ADMIN = "Viewer", "Admin"
"""Airflow's own."""
RUN, QUESTION, TASK = "DAG Run", "HITL Detail", "Task Instances"
CREATE, EDIT = "can_create", "can_edit"
_START_PAGE: Right = ("can_read", "Website")
"""Airflow gives it to every role that it finds, so ours have it from the start."""
_ANSWERS_PAGE: Right = ("menu_access", QUESTION)


def of_dag(what: str, dag_id: str) -> str:
    """A part of one DAG alone, as the rights have it."""
    return f"{what}:{dag_id}"


def roles_of(plan: Plan) -> dict[str, frozenset[Right]]:
    """Every role that is there for one plan."""
    asking = (
        plan.deployment_dag_id, plan.readiness_dag_id, plan.announcements_dag_id, plan.followups_dag_id,
        plan.data_migration_dag_id,
    )  # fmt: skip
    data = (plan.seed_dag_id, plan.import_dag_id, plan.data_migration_dag_id, plan.data_migration_control_dag_id)
    roles = {
        deployer(plan): _to_each(
            CREATE, RUN,
            (plan.deployment_dag_id, plan.dry_run_dag_id, plan.readiness_dag_id, plan.announcements_dag_id),
        ),
        approver(plan): {*_to_each(EDIT, QUESTION, asking), _ANSWERS_PAGE},
        rollback(plan): _to_each(CREATE, RUN, (plan.rollback_dag_id,)),
        keeper_of_data(plan): _to_each(CREATE, RUN, data),
        automation(plan): (
            _to_each(CREATE, RUN, (plan.rollback_dag_id, plan.redelivery_dag_id))
            | _to_each(EDIT, RUN, (plan.deployment_dag_id, plan.rollback_dag_id))  # the note, and with TASK:
            | _to_each(EDIT, TASK, (plan.deployment_dag_id,))  # questions of a deployment that is over are withdrawn
        ),
    }  # fmt: skip
    return {name: frozenset({*rights, _START_PAGE}) for name, rights in roles.items()}


def deployer(plan: Plan) -> str:
    """Starts deployments, dry runs, readiness runs and announcements."""
    return f"{plan.name}_deployer"


def approver(plan: Plan) -> str:
    """Answers the questions that the plan's team is asked."""
    return f"{plan.name}_approver"


def rollback(plan: Plan) -> str:
    """Starts the rollback, and "roll back now"."""
    return f"{plan.name}_rollback"


def keeper_of_data(plan: Plan) -> str:
    """Starts imports, seeds and data migrations."""
    return f"{plan.name}_data"


def automation(plan: Plan) -> str:
    """Of the account behind the plan's Airflow connection: what callbacks, watches and the rollback do by REST."""
    return f"{plan.name}_automation"


def _to_each(action: str, what: str, dags: Iterable[str]) -> set[Right]:
    return {(action, of_dag(what, dag)) for dag in dags}
