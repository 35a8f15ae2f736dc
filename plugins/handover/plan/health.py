"""Section `health` of the plan: what is asked to know that the service works, and its error tracker."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from handover.plan.parts import Command, ConnectionId, Seconds, Section, UrlPath, all_or_none
from handover.plan.placeholders import ReleaseName, filled


class Health(Section):
    path: UrlPath
    key_endpoints: Annotated[tuple[UrlPath, ...], Field(min_length=1)]
    login_path: UrlPath | None = None
    """Where the test user of the API's connection logs in; without it everything is asked as nobody in particular."""
    database_command: Command | None = None
    client_command: Command | None = None
    error_tracker_connection: ConnectionId | None = None
    error_tracker_path: UrlPath | None = None
    """Both or neither: without them no error tracker is asked."""
    error_tracker_release: ReleaseName = "{version}"
    error_tracker_release_path: Annotated[str, StringConstraints(pattern=r"^/\S*\{release\}\S*$")] | None = None
    """By default beside its issues."""
    max_new_errors: Annotated[int, Field(ge=0)] = 0
    timeout_seconds: Seconds

    @model_validator(mode="after")
    def _the_tracker_can_be_asked_for_releases(self) -> Health:
        all_or_none(self, "error_tracker_connection", "error_tracker_path")
        if self.error_tracker_path and not self.release_path:
            raise ValueError("error_tracker_path does not end in /issues/, so error_tracker_release_path must be said")
        return self

    @property
    def release_path(self) -> str:
        """Where the tracker tells of a ``{release}``; empty when nobody says it."""
        issues = (self.error_tracker_path or "").partition("?")[0].rstrip("/")
        beside = f"{issues.removesuffix('issues')}releases/{{release}}/" if issues.endswith("/issues") else ""
        return self.error_tracker_release_path or beside

    def release_of(self, version: str) -> str:
        """What the error tracker calls a version."""
        return filled(self.error_tracker_release, version=version)
