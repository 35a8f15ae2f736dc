"""Loaded by every Airflow process at its start.

Tasks are forked from the scheduler (LocalExecutor) or the Celery worker, and DAG files are parsed in forks of the DAG
processor. So what is imported here once costs them nothing: a step that talks to the cluster and the database would
else spend 0.65 s on imports, and the models of the plan take another 0.1 s. Like any plugin, a changed model needs a
restart.
"""

from __future__ import annotations

import contextlib
import importlib
import sys

FORKING_COMMANDS = {"scheduler", "celery", "dag-processor", "triggerer", "standalone"}
HEAVY = (
    "aiohttp",
    "asyncpg",
    "boto3",
    "psycopg",
    "requests",
    "airflow.providers.postgres.hooks.postgres",
    "airflow.providers.standard.operators.hitl",
    "handover.models.deployment",
    "handover.models.record",
    "handover.plan.model",
    "handover.readiness.kinds",
)

if FORKING_COMMANDS.intersection(sys.argv[1:3]):
    for _name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(_name)
