"""The error tracker and the performance monitor know the service."""

from __future__ import annotations

from typing import Literal

from handover.models.evidence import Evidence, failed, passed
from handover.plan.parts import ConnectionId, UrlPath
from handover.readiness import web
from handover.readiness.check import CheckKind, Scope


class SentryProject(CheckKind):
    """The project exists, is active, and has a key with which the service can report."""

    kind: Literal["sentry_project"]
    connection: ConnectionId
    project: str
    """``organisation/project``."""

    def look(self, scope: Scope) -> Evidence:
        path = f"/api/0/projects/{self.project}/"
        try:
            project = web.get(self.connection, path)
        except web.Missing as missing:
            return failed(self.kind, str(missing))
        if project["status"] != "active":
            return failed(self.kind, f"{self.project} is {project['status']}")
        if not any(key["isActive"] for key in web.get(self.connection, f"{path}keys/")):
            return failed(self.kind, f"{self.project} has no active key: nothing can be reported to it")
        return passed(self.kind, f"{self.project} is active and takes reports")


class DatadogService(CheckKind):
    """Datadog takes our key and knows the service.

    The connection's password is the API key, ``application_key`` in its extra the application key.
    """

    kind: Literal["datadog_service"]
    connection: ConnectionId
    service: str
    path: UrlPath = "/api/v2/services/definitions"

    def look(self, scope: Scope) -> Evidence:
        from airflow.sdk import BaseHook

        where = BaseHook.get_connection(self.connection)
        keys = {
            "DD-API-KEY": where.password or "",
            "DD-APPLICATION-KEY": where.extra_dejson.get("application_key", ""),
        }
        if web.get(self.connection, "/api/v1/validate", headers=keys, bearer=False)["valid"] is not True:
            return failed(self.kind, "the API key is not valid")
        try:
            found = web.get(self.connection, f"{self.path}/{self.service}", headers=keys, bearer=False)
        except web.Missing as missing:
            return failed(self.kind, str(missing))
        name = found["data"]["attributes"]["schema"]["dd-service"]
        verdict = passed if name == self.service else failed
        return verdict(self.kind, f"the service is known as {name}")
