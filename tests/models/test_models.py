"""Evidence and state: values that cross task boundaries as JSON."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from handover.models.deployment import BackupRecord, DeploymentState, FencingToken, MigrationRecord, Release, Status
from handover.models.evidence import Evidence, Measurement, Verdict, combined, failed, passed, unknown

SEEN = Measurement(what="p50_seconds", value=0.1, unit="s", source="test", at=1.0)


@pytest.mark.parametrize(
    ("made", "verdict", "good"),
    [(passed, Verdict.PASS, True), (failed, Verdict.FAIL, False), (unknown, Verdict.UNKNOWN, False)],
)
def test_only_a_pass_is_a_pass(made, verdict, good):
    evidence = made("check", "why", SEEN)
    assert (evidence.verdict, evidence.passed, evidence.measurements) == (verdict, good, (SEEN,))


def test_a_measurement_says_when():
    assert abs(Measurement(what="x", value=1, source="s").at - time.time()) < 5


@pytest.mark.parametrize(
    ("parts", "verdict", "reason"),
    [
        ([], Verdict.UNKNOWN, "nothing was checked"),
        ([passed("a", "1")], Verdict.PASS, "a: 1"),
        ([passed("a", "1"), passed("b", "2")], Verdict.PASS, "a: 1; b: 2"),
        ([passed("a", "1"), unknown("b", "2")], Verdict.UNKNOWN, "b: 2"),
        ([unknown("a", "1"), failed("b", "2"), failed("c", "3")], Verdict.FAIL, "b: 2; c: 3"),
    ],
)
def test_combining(parts, verdict, reason):
    whole = combined("all", parts)
    assert (whole.check, whole.verdict, whole.reason) == ("all", verdict, reason)


def test_combining_keeps_every_measurement():
    assert combined("all", [passed("a", "", SEEN), failed("b", "", SEEN)]).measurements == (SEEN, SEEN)


STATE = DeploymentState(
    deployment="run", generation=2, status=Status.DEPLOYING, version="v1.1.0", image="r/i@sha256:1",
    previous_version="v1.0.0", previous_image="r/i:v1.0.0", stable="blue", preview="green", reason="why",
    started_at=1.0, switched_at=2.0, backup=BackupRecord(uri="s3://b/k", size_bytes=1, sha256="0", taken_at=1.0),
    migration=MigrationRecord(applied=("a",), started=True, compatible=False, counts={"users": 3}),
    baseline={"p50_seconds": 0.1},
)  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        STATE,
        FencingToken(deployment="run", generation=1, stable="blue", preview="green"),
        Release(version="v1.1.0", image="r/i:v1.1.0", reason="why"),
        passed("check", "why", SEEN),
    ],
)
def test_values_survive_json(value):
    assert type(value).model_validate(json.loads(json.dumps(value.model_dump(mode="json")))) == value
    assert type(value).model_validate_json(value.model_dump_json(indent=1)) == value


@given(st.text(), st.text(), st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)))
def test_any_text_and_number_survives_json(check, reason, value):
    evidence = failed(check, reason, Measurement(what="x", value=value, source="s"))
    try:
        text = evidence.model_dump_json()
    except ValueError:  # lone surrogates are not text
        return
    assert Evidence.model_validate_json(text) == evidence


def test_values_never_change_and_take_nothing_unknown():
    with pytest.raises(ValidationError, match="frozen"):
        STATE.version = "v2"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Release(version="v1", image="i", reason="why", colour="red")
    with pytest.raises(ValidationError):
        Release(version="v1", image="i", reason="why", method="magic")


def test_a_migration_begins_unasked():
    assert (MigrationRecord().compatible, MigrationRecord().started, MigrationRecord().corrupt) == (None, False, False)
