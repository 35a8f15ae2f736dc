"""The story of an incident."""

from __future__ import annotations

import pytest

from handover.models import incident
from handover.models.incident import Resolution, Severity

NOON = 1795608000.0


def critical() -> incident.Incident:
    return incident.began("error_rate", "11 of 205 were bad", Severity.CRITICAL, NOON, Resolution.ASKED)


def test_a_critical_incident_is_open_until_it_has_an_outcome():
    minor = incident.began("cpu", "hot", Severity.HIGH, NOON, Resolution.NOTED)
    assert incident.pending((minor, critical())) == critical()
    assert incident.pending((minor,)) is None
    assert incident.pending(incident.changed((minor, critical()), NOON, "fixed it", Resolution.FIXED)) is None


def test_a_line_goes_to_the_open_incident_alone():
    minor = incident.began("cpu", "hot", Severity.HIGH, NOON, Resolution.NOTED)
    first, second = incident.changed((minor, critical()), NOON + 60, "Fix by lead")
    assert first == minor
    assert [entry.what for entry in second.timeline] == ["error_rate: 11 of 205 were bad", "Fix by lead"]
    assert second.open


@pytest.mark.plan("Document incident for post-mortem")
def test_the_story_has_a_line_for_each_entry():
    done = critical().then(NOON + 90, "the old version serves", Resolution.ROLLED_BACK)
    assert str(done) == (
        "critical incident, rolled_back: error_rate\n"
        "2026-11-25 12:00:00 error_rate: 11 of 205 were bad\n"
        "2026-11-25 12:01:30 the old version serves"
    )
