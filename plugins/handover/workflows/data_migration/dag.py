"""What the DAG files of the data migrations are built with."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param

from handover.workflows.dags import FIRST_DAY, RETRIES

if TYPE_CHECKING:
    from handover.plan.data_migrations import DataMigrations
    from handover.plan.model import Plan


def migration_dag(plan: Plan) -> DAG:
    """Moves the data of every table that the plan names, still empty. One run at a time: it goes on where the last one
    stopped.
    """
    return _dag(plan, plan.data_migration_dag_id, {}, 1, _ABOUT.format(title=plan.title))


def control_dag(plan: Plan, rules: DataMigrations) -> DAG:
    """Acts beside such a run, still empty."""
    form = {
        "table": Param(
            "", type="string", enum=list(rules.tables), title="Data migration", description="Its name in the plan"
        ),
        "action": Param(
            "", type="string", enum=["pause", "go on", "abort", "contract"], title="What to do",
            values_display={
                "pause": "Pause after the batch that runs", "go on": "Go on",
                "abort": "Give it up: nothing is filled any more", "contract": "Contract: the way back goes",
            },
        ),
    }  # fmt: skip
    about = f"Pauses a data migration of {plan.title}, lets it go on, gives it up, or contracts one that was cut over."
    return _dag(plan, plan.data_migration_control_dag_id, form, 4, about)


_ABOUT = (
    "Fills new columns of {title} from old ones in the background, compares, and asks for the cutover. Refused while a"
    " deployment or a rollback is under way, held while one runs. See docs/data-migration.md."
)


def _dag(plan: Plan, dag_id: str, form: dict[str, Any], runs: int, about: str) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule=None,
        start_date=FIRST_DAY,
        max_active_runs=runs,
        is_paused_upon_creation=False,
        default_args={"plan": plan, **RETRIES, "execution_timeout": datetime.timedelta(days=2)},
        params=form,
        tags=[plan.name, "data"],
        doc_md=about,
    )
