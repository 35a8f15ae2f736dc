"""Section `rehearsal` of the plan: a release tried on a copy of production's data, before anybody is asked to come."""

from __future__ import annotations

from pydantic import Field, model_validator

from handover.plan.parts import Command, Name, Seconds, SecretName, Section


class RehearsalRules(Section):
    """What a release must not do to clients on the copy, and what else is run there."""

    max_lock_seconds: Seconds = 1.0
    """For how long a lock that somebody may have to wait for may be held on a table."""
    max_stall_seconds: Seconds = 1.0
    """For how long a client may wait."""
    max_backup_age_seconds: Seconds = 172_800.0
    """An older copy is not production any more."""
    settings_secret: SecretName | None = None
    """Environment of the tests, and of a release that migrates by itself. Its DATABASE_URL names the copy, which is
    always called ``<plan>_rehearsal``; it has nothing of production's.
    """
    application_tests: dict[Name, Command] = Field(default_factory=dict)
    """Run in the image of the old and of the new version, each on the old and on the new schema."""

    @model_validator(mode="after")
    def _tests_are_told_where(self) -> RehearsalRules:
        if self.application_tests and self.settings_secret is None:
            raise ValueError("application_tests without settings_secret: nobody tells them where the copy is")
        return self
