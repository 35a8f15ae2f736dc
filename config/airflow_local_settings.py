"""Loaded by every Airflow process at its start.

Tasks are forked from the scheduler (LocalExecutor) or the Celery worker, so what is imported here once costs a task
nothing: without it a step that talks to the cluster and the database spends 0.65 s on imports alone.
"""

from __future__ import annotations

import contextlib
import importlib
import sys

FORKING_COMMANDS = {"scheduler", "celery", "triggerer", "standalone"}
HEAVY = (
    "aiohttp",
    "kubernetes_asyncio.client",
    "airflow.providers.cncf.kubernetes.hooks.kubernetes",
    "airflow.providers.postgres.hooks.postgres",
    "requests",
)

if FORKING_COMMANDS.intersection(sys.argv[1:3]):
    for _name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(_name)
