"""What the data's DAG file is built with: the import of a CSV file and the seeding, which are no deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from airflow.sdk import DAG, Param

from handover.data.csv_file import Delimiter, Encoding
from handover.workflows.dags import FIRST_DAY, RETRIES

if TYPE_CHECKING:
    from handover.plan.model import Plan


def import_dag(plan: Plan) -> DAG:
    """The DAG that imports a CSV file, still empty: its form asks for the file."""
    return _data_dag(
        plan, plan.import_dag_id, _import_form(plan), f"Imports a CSV file into the database of {plan.title}."
    )


def seed_dag(plan: Plan) -> DAG:
    """The DAG that fills a new database, still empty."""
    return _data_dag(plan, plan.seed_dag_id, {}, f"Fills a new, empty database of {plan.title}.")


def _data_dag(plan: Plan, dag_id: str, form: dict[str, Param], what: str) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule=None,
        start_date=FIRST_DAY,
        max_active_runs=1,
        is_paused_upon_creation=False,
        default_args={"plan": plan, **RETRIES},
        params=form,
        tags=[plan.name, "data"],
        doc_md=f"{what} Refused while a deployment or a rollback is under way.",
    )


def _import_form(plan: Plan) -> dict[str, Param]:
    assert plan.data is not None
    kinds = list(plan.data.imports)
    return {
        "what": Param(kinds[0], enum=kinds, title="What it holds"),
        "source": Param(
            None, type=["null", "string"], title="File", examples=[f"{plan.data.sources[0]}{kinds[0]}.csv"],
            description=f"Below {', '.join(plan.data.sources)}; the report of rejected rows is put beside it",
        ),
        "on_rejects": Param(
            "abort", enum=["abort", "skip"], title="When rows are rejected",
            values_display={"abort": "Import nothing", "skip": "Import the others"},
        ),
        "encoding": Param("utf-8", enum=list(get_args(Encoding)), title="Encoding"),
        "delimiter": Param(",", enum=list(get_args(Delimiter)), title="Delimiter"),
    }  # fmt: skip
