"""Registers the listener that sees what no callback sees: a deployment run marked failed by hand."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from handover.workflows import listener


class HandoverPlugin(AirflowPlugin):
    name = "handover"
    listeners = [listener]  # noqa: RUF012 - Airflow declares it so
