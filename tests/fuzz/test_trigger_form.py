"""What somebody fills into a form, or sends past it: a request, or what is wrong with it and where."""

from __future__ import annotations

import copy
import datetime
import functools
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.data.places import BadSource, place
from handover.models.deployment import Release
from handover.models.image_reference import ImageReference
from handover.outside import Outside, standing_in
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.workflows.announcements.steps import announced_window
from handover.workflows.data.steps import ImportRows
from handover.workflows.deployment.request import BadRequest, release_of
from handover.workflows.redelivery.steps import BadLetter, letter_of
from tests.fuzz.strategies import ANYTHING, TEXT, changed
from tests.support.fuzz import fuzz, nothing_happens, tried
from tests.twins.airflow import TwinAirflow

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
REPOSITORY = PLAN.image.repository
VERSIONS = st.sampled_from(["v1.1.0", "v1.1.0-rc.1", "v01.1.0", "v1.1.0+x", "v1.1.0\n", "V1.1.0", "v1.1"]) | TEXT
IMAGES = (
    st.sampled_from([f"{REPOSITORY}:v1.1.0", f"{REPOSITORY}@sha256:{'0' * 64}", f"{REPOSITORY}.evil/x:v1", REPOSITORY])
    | TEXT
)
REASONS = st.sampled_from(["a good reason", " " * 9, "ok"]) | TEXT


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Of a form's own type, or of none of them: Airflow's Variables and API take any JSON."""
    return st.one_of(strategy, strategy, strategy, ANYTHING)


RELEASE = st.fixed_dictionaries({}, optional={
    "version": mostly(VERSIONS), "image": mostly(IMAGES), "method": mostly(st.sampled_from(["sql", "none", "prisma"])),
    "banner": mostly(st.none() | st.booleans()), "reason": mostly(REASONS), "window_override": mostly(st.booleans()),
    "window_override_reason": mostly(REASONS), "readiness_override_reason": mostly(REASONS), "more": ANYTHING,
})  # fmt: skip


@fuzz("trigger form")
@given(asked=RELEASE, now=st.sampled_from([NOW, None]))
def test_a_release_that_is_asked_for_is_one_or_everything_that_is_wrong_with_it_is_said(asked, now):
    found, said = tried(lambda: release_of(PLAN, asked, now), BadRequest)
    if found is None:
        assert said.startswith("nothing was touched, because of:\n- ")
        return
    image = ImageReference.parse(found.image)
    assert image.is_from(ImageReference.parse(REPOSITORY)) and (image.tag or image.pinned)
    assert found.version.isascii() and found.version == asked["version"].strip()
    assert Release.model_validate(found.model_dump(mode="json")) == found
    assert found.window_override is (asked.get("window_override") is True)
    assert len(found.reason) >= 5 and len(found.window_override_reason) >= 5 * found.window_override


@fuzz("trigger form")
@given(data=st.data())
def test_a_form_of_any_dag_takes_what_its_schema_takes_and_refuses_the_rest_by_name(dag_bag, data):
    """Airflow checks it before a run is there; what passes has the types that the steps expect."""
    from airflow.sdk.exceptions import ParamValidationError

    dag = dag_bag.dags[data.draw(st.sampled_from(sorted(dag_bag.dags)))]
    filled = data.draw(changed(dag.params.dump()))
    if not isinstance(filled, dict):
        return
    params = copy.deepcopy(dag.params)
    try:
        with nothing_happens():
            params.update(filled)
            taken = params.validate()
    except ParamValidationError:
        return
    if {"version", "image", "reason"} <= taken.keys():
        with suppress(BadRequest):
            release_of(PLAN, taken, NOW)


@fuzz("trigger form")
@given(start=mostly(st.datetimes(timezones=st.none() | st.just(datetime.UTC)).map(str) | TEXT))
def test_a_window_that_is_announced_has_a_beginning_and_an_end_or_is_refused(start):
    found, said = tried(lambda: announced_window(PLAN, start, NOW), BadRequest)
    if found is None:
        assert said.startswith("window_start: ")
        return
    opens, closes = found
    assert NOW.timestamp() <= opens < closes < NOW.timestamp() + 367 * 86_400


@fuzz("trigger form")
@given(asked=st.fixed_dictionaries({}, optional={
    "what": mostly(st.sampled_from(["guests", *PLAN.data.imports])), "source": mostly(TEXT),
    "on_rejects": mostly(st.sampled_from(["abort", "skip"])), "encoding": mostly(st.sampled_from(["utf-8"])),
    "delimiter": mostly(st.sampled_from([",", "tab"])), "more": ANYTHING,
}))  # fmt: skip
def test_an_import_that_is_asked_for_is_one_of_the_plans_or_is_refused(asked):
    step, run = ImportRows(task_id="import_rows", plan=PLAN), SimpleNamespace(context={"params": asked})
    found, _ = tried(lambda: step._request(run), BadSource)
    assert found is None or found.what in PLAN.data.imports


@fuzz("trigger form")
@given(
    path=TEXT,
    before=st.sampled_from(["", "s3://import-bucket/", "s3://import-bucket/../", "/data/", "file:///", "s3://"]),
)
def test_a_file_is_read_only_where_the_plan_says(tmp_path, path, before):
    roots = ["s3://import-bucket/in/", str(tmp_path)]
    for source in (f"{before}{path}", f"{tmp_path}/{path}", f"{tmp_path}/../{path}", f"s3://import-bucket/in/{path}"):
        found, _ = tried(functools.partial(place, source, roots, lambda: None), BadSource)
        below = (f"{tmp_path.resolve()}/", f"{tmp_path.resolve()}.rejects", "s3://import-bucket/in/")
        assert found is None or found.report.startswith(below)


LETTER = {"letter": {"key": "k", "kind": "slack", "to": ["#pms-deployments"], "text": "hello", "at": 1.0, "blocks": []},
          "deployment": "d", "seal": "0" * 64}  # fmt: skip


@fuzz("trigger form")
@given(conf=changed(LETTER))
def test_a_letter_that_nobody_here_has_written_is_never_sent(conf):
    with standing_in(Outside(airflow=lambda _: TwinAirflow())), pytest.raises(BadLetter), nothing_happens():
        letter_of(PLAN, conf if isinstance(conf, dict) else {"letter": conf})
