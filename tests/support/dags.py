"""The repository's DAGs, read once for all tests that only look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).resolve().parents[2] / "dags"


def bag_of(folder: Path = DAGS) -> Any:
    """A `DagBag` of a folder, read anew."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(folder, bundle_path=folder)


@pytest.fixture(scope="session")
def dag_bag() -> Any:
    """The `DagBag`; whoever changes the plan, the folder or a DAG reads its own."""
    return bag_of()
