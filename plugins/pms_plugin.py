"""Registers the listener that sees what no callback sees: a deployment run marked failed by hand."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from pms.flow import listener


class PmsPlugin(AirflowPlugin):
    name = "pms"
    listeners = [listener]  # noqa: RUF012 - Airflow declares it so
