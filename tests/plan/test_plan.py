"""Plan files: a wrong value names file, key and reason; an overlay changes values; a second plan is a second plan."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field, ValidationError

from handover.models.quantity import quantity
from handover.plan.load import OVERLAY_VARIABLE, PlanError, load_plan, load_plans
from handover.plan.model import INCLUDE, Plan
from handover.plan.parts import PLANS_VARIABLE, ConnectionId, Section, connections_of

PMS = INCLUDE / "plans" / "pms.yaml"
GOOD = yaml.safe_load(PMS.read_text())


def changed(path: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    *folders, key = path.split(".")
    place = data
    for folder in folders:
        place = place[int(folder)] if isinstance(place, list) else place[folder]
    if value is None:
        del place[key]
    else:
        place[int(key) if isinstance(place, list) else key] = value
    return data


def written(folder: Path, data: Any, name: str = "pms.yaml") -> Path:
    file = folder / name
    file.write_text(data if isinstance(data, str) else yaml.dump(data, Dumper=yaml.CSafeDumper))
    return file


def error_of(folder: Path, data: Any) -> str:
    file = written(folder, data)
    with pytest.raises(PlanError) as error:
        load_plan(file)
    assert str(file) in str(error.value)
    return str(error.value)


@pytest.mark.plan(
    "Step 7: Monitor green environment for 5 minutes",
    "Decision point: Within first 30 minutes",
    "Monitor for 10 minutes to ensure stability",
    "Error rate <0.1%",
)
def test_the_plan_of_the_repository_has_the_numbers_of_the_document():
    plan = load_plan(PMS)
    limits = plan.thresholds
    assert (limits.max_p50_seconds, limits.max_p99_seconds, limits.max_error_rate) == (0.2, 1.0, 0.001)
    assert (limits.max_cpu, limits.max_memory, limits.min_cache_hit_rate) == (0.7, 0.75, 0.8)
    assert (limits.max_replication_lag_seconds, limits.max_migration_lag_seconds) == (2.0, 5.0)
    assert (limits.alert_degradation, limits.rollback_degradation) == (0.1, 0.5)
    assert plan.backup.min_bytes == 100_000_000
    assert (plan.watch.after_switch_seconds, plan.watch.stabilization_seconds) == (300, 7200)
    assert (plan.rollback.window_seconds, plan.watch.after_rollback_seconds) == (1800, 600)
    assert (plan.window.weekday, plan.window.opens.hour, plan.window.closes.hour) == ("tuesday", 14, 18)
    assert plan.health.key_endpoints == ("/bookings", "/rooms", "/staff")
    assert [step.name for step in plan.functional.steps] == ["login", "rooms", "booking", "payment", "check_in"]


WRONG = [
    ("name", "Has Blanks", "name"),
    ("name", None, "name: Field required"),
    ("unknown_key", 1, "unknown_key: Extra inputs are not permitted"),
    ("cluster.replica", 2, "cluster.replica: Extra inputs"),
    ("cluster.replicas", 0, "cluster.replicas"),
    ("cluster.replicas", "two", "cluster.replicas"),
    ("cluster.colours", ["blue", "blue"], "cluster: Value error, colours must be two different names"),
    ("cluster.colours", ["blue"], "cluster.colours.1"),
    ("cluster.deployment", "pms", "cluster.deployment"),
    ("cluster.port", 70000, "cluster.port"),
    ("cluster.namespace", "Production", "cluster.namespace"),
    ("cluster.namespace", "shop.prod", "cluster.namespace"),
    ("cluster.app", "web shop", "cluster.app"),
    ("cluster.app", "-web", "cluster.app"),
    ("cluster.settings_secret", "Web", "cluster.settings_secret"),
    ("cluster.settings_secret", "web..x", "cluster.settings_secret"),
    ("cluster.memory_limit", "512MB", "Value error, '512MB' is no quantity of Kubernetes above 0"),
    ("cluster.memory_limit", "0", "cluster.memory_limit: Value error, '0' is no quantity of Kubernetes above 0"),
    ("cluster.memory_limit", 0, "cluster.memory_limit: Value error, '0' is no quantity of Kubernetes above 0"),
    ("cluster.memory_limit", "inf", "cluster.memory_limit: Value error, 'inf' is no quantity of Kubernetes above 0"),
    ("cluster.memory_limit", "-1Gi", "cluster.memory_limit: Value error, '-1Gi' is no quantity of Kubernetes above 0"),
    ("cluster.cpu_limit", "one", "cluster.cpu_limit: Value error, 'one' is no quantity of Kubernetes above 0"),
    ("cluster.cpu_limit", True, "cluster.cpu_limit"),
    ("cluster.cpu_limit", ".inf", "cluster.cpu_limit"),
    ("cluster.manifest", "none.yaml", "no such file: include/k8s/none.yaml"),
    ("cluster.rollout_timeout_seconds", 0, "cluster.rollout_timeout_seconds"),
    ("image.repository", "no blanks here", "image.repository"),
    ("image.connection", "", "image.connection"),
    ("window.weekday", "caturday", "window.weekday"),
    ("window.opens", "18:00", "opens must be before closes"),
    ("window.opens", "25:00", "window.opens"),
    ("window.timezone", "Mars/Olympus", "unknown time zone 'Mars/Olympus'"),
    ("team.qa.escalates_to", "nobody", "team.qa.escalates_to: no role 'nobody'"),
    ("team.qa.users", [], "team.qa.users"),
    ("team.lead", None, "'lead'"),
    ("briefing.role", "chef", "no role 'chef' in team"),
    ("acceptance.role", "chef", "no role 'chef' in team"),
    ("overrides.role", "chef", "no role 'chef' in team"),
    ("overrides.second_person", ["mood"], "overrides.second_person"),
    ("staging.health_path", "health", "staging.health_path"),
    ("staging.test_commands", {}, "staging.test_commands"),
    ("staging.test_commands.unit", [], "staging.test_commands.unit"),
    ("window.opens", "14:00+02:00", "window.opens: Value error, a time of the window's own time zone"),
    ("window.closes", "18:00Z", "window.closes: Value error, a time of the window's own time zone"),
    ("window.opens", 840, 'window.opens: Value error, a time in quotes, "14:00"'),
    ("staging.max_recent_errors", -1, "staging.max_recent_errors"),
    ("backup.min_bytes", "lots", "backup.min_bytes"),
    ("backup.compression", "rar", "backup.compression"),
    ("backup.prefix", "/production/", "backup.prefix"),
    ("backup.prefix", "production", "backup.prefix"),
    ("banner.method", "GET", "banner.method"),
    ("traffic.verify_requests", 0, "traffic.verify_requests"),
    ("traffic.overlap_seconds", -1, "traffic.overlap_seconds"),
    ("health.key_endpoints", [], "health.key_endpoints"),
    ("health.max_new_errors", -1, "health.max_new_errors"),
    ("thresholds.max_error_rate", 0.1 * 20, "thresholds.max_error_rate"),
    ("thresholds.max_error_rate", 0, "thresholds.max_error_rate"),
    ("thresholds.max_p50_seconds", 2.0, "max_p50_seconds must not be above max_p99_seconds"),
    ("thresholds.alert_degradation", 0.6, "alert_degradation must not be above rollback_degradation"),
    ("thresholds.max_cpu", "70%", "thresholds.max_cpu"),
    ("watch.min_bad_samples", 1, "watch.min_bad_samples"),
    ("watch.confidence_z", 9, "watch.confidence_z"),
    ("migration.schema_check", "../../README.md.sql", "no such file: include/sql/"),
    ("migration.counted_tables", ["users; DROP TABLE users"], "migration.counted_tables"),
    ("functional.steps", [], "functional.steps"),
    ("functional.steps.0.method", "BREW", "functional.steps.0.method"),
    ("functional.steps.0.expect", 42, "functional.steps.0.expect"),
    ("functional.steps.2.body", {"roomId": "{rom}"}, "step 'booking' uses rom, which no step before it saves"),
    ("functional.steps.4.path", "/bookings/{later}/check-in", "step 'check_in' uses later"),
    ("functional.days_span", 0, "functional.days_span"),
    ("performance.requests", 0, "performance.requests"),
    ("performance.paths", ["rooms"], "performance.paths"),
    ("messages.incidents_channel", "pms-incidents", "messages.incidents_channel"),
    ("rollback.window_seconds", -1, "rollback.window_seconds"),
]


@pytest.mark.parametrize(("path", "value", "said"), WRONG, ids=[f"{path}={value}" for path, value, _ in WRONG])
def test_a_wrong_value_names_file_key_and_reason(tmp_path, path, value, said):
    assert said in error_of(tmp_path, changed(path, value))


def test_all_wrong_values_are_told_at_once(tmp_path):
    data = changed("cluster.replicas", 0)
    data["watch"]["min_bad_samples"] = 0
    text = error_of(tmp_path, data)
    assert "cluster.replicas: Input should be greater than or equal to 1 (is 0)" in text
    assert "watch.min_bad_samples" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a plan is a mapping of sections, this is NoneType"),
        ("- a\n- b\n", "this is list"),
        ("a: [1,", "while parsing a flow node"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_plan(tmp_path, text, said):
    assert said in error_of(tmp_path, text)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(PlanError, match="No such file"):
        load_plan(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"binary\.yaml"):
        load_plan(tmp_path / "binary.yaml")


def test_a_long_wrong_value_is_told_in_short(tmp_path):
    assert "..." in error_of(tmp_path, changed("cluster.port", "x" * 500))
    assert "x" * 100 not in error_of(tmp_path, changed("cluster.port", "x" * 500))


def test_an_overlay_changes_values_and_nothing_else(tmp_path):
    over = written(
        tmp_path,
        {"watch": {"stabilization_seconds": 6}, "rollback": {"window_seconds": 4}, "backup": {"min_bytes": "1MB"}},
        "over.yaml",
    )
    plan, whole = load_plan(PMS, over), load_plan(PMS)
    assert plan.watch.stabilization_seconds == 6
    assert plan.backup.min_bytes == 1_000_000
    assert plan.watch.model_copy(update={"stabilization_seconds": 7200}) == whole.watch
    same = {"watch": whole.watch, "backup": whole.backup, "rollback": whole.rollback}
    assert plan.model_copy(update=same) == whole


def test_an_overlay_replaces_lists_and_is_checked_as_the_plan_is(tmp_path):
    over = written(tmp_path, {"health": {"key_endpoints": ["/a"]}}, "over.yaml")
    assert load_plan(PMS, over).health.key_endpoints == ("/a",)
    over = written(tmp_path, {"watch": {"soak": 5}}, "over.yaml")
    with pytest.raises(PlanError, match=r"pms\.yaml with overlay .*over\.yaml:\n  over\.yaml:2: watch\.soak"):
        load_plan(PMS, over)


def test_all_plans_of_a_folder_a_broken_one_beside_good_ones(tmp_path, monkeypatch):
    shutil.copy(PMS, tmp_path / "a.yaml")
    written(tmp_path, changed("cluster.replicas", 0), "b.yaml")
    written(tmp_path, changed("name", "second"), "c.yaml")
    (tmp_path / "notes.txt").write_text("no plan")
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    first, broken, second = load_plans()
    assert isinstance(first, Plan)
    assert isinstance(broken, PlanError)
    assert "b.yaml" in str(broken)
    assert isinstance(second, Plan)
    assert (first.deployment_dag_id, second.deployment_dag_id) == ("pms_deployment", "second_deployment")
    assert second.rollback_dag_id == "second_rollback"


def test_whatever_a_validator_raises_is_the_error_of_its_plan_alone(tmp_path, monkeypatch):
    def broken(data: Any) -> Plan:
        if data["name"] == "second":
            raise TypeError("can't compare them")
        return validated(data)

    validated = Plan.model_validate
    monkeypatch.setattr(Plan, "model_validate", broken)
    shutil.copy(PMS, tmp_path / "a.yaml")
    written(tmp_path, changed("name", "second"), "b.yaml")
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    first, second = load_plans()
    assert isinstance(first, Plan)
    assert isinstance(second, PlanError)
    assert str(second) == f'{tmp_path / "b.yaml"}: it cannot be checked: TypeError("can\'t compare them")'


def test_the_overlay_of_the_environment_is_laid_over_every_plan(tmp_path, monkeypatch):
    over = written(tmp_path, {"cluster": {"replicas": 7}}, "over.yaml")
    monkeypatch.setenv(OVERLAY_VARIABLE, str(over))
    (plan,) = load_plans()
    assert isinstance(plan, Plan)
    assert plan.cluster.replicas == 7


def test_every_connection_is_named_once():
    connections = load_plan(PMS).connections
    assert len(set(connections)) == len(connections)
    assert {"pms_kubernetes", "pms_primary", "pms_replica", "pms_restore", "pms_aws", "pms_slack", "pms_api",
            "pms_preview", "pms_staging", "pms_registry", "pms_smtp", "pms_status_page", "pms_sentry", "pms_jira",
            "pms_airflow"} <= set(connections)  # fmt: skip


def test_a_connection_is_known_by_its_type_however_deep_and_whatever_it_is_called():
    class Inner(Section):
        who: ConnectionId | None = None
        many: tuple[ConnectionId, ...] = ()
        by_name: dict[str, ConnectionId] = {}  # noqa: RUF012 - models copy their defaults
        connection_text: str = "no id"

    class Outer(Section):
        first: Annotated[ConnectionId, Field(description="x")] = "first"
        inner: Inner
        listed: tuple[Inner, ...] = ()
        mapped: dict[str, Inner] = {}  # noqa: RUF012

    section = Outer(
        inner=Inner(who="a", many=("b", "c")), listed=(Inner(), Inner(by_name={"x": "d"})), mapped={"y": Inner(who="e")}
    )
    assert list(connections_of(section)) == ["first", "a", "b", "c", "d", "e"]


def test_every_connection_that_the_file_names_is_checked_before_a_deployment():
    def named(value: Any, key: str = "") -> Iterator[str]:
        if isinstance(value, dict):
            for inner, one in value.items():
                yield from named(one, inner)
        elif key.endswith("connection") or key == "replica_connections":
            yield from value if isinstance(value, list) else [value]

    assert set(load_plan(PMS).connections) == set(named(GOOD))
    assert "pms_prometheus" in load_plan(PMS).connections


def test_colours_and_names():
    cluster = load_plan(PMS).cluster
    assert (cluster.other("blue"), cluster.other("green")) == ("green", "blue")
    assert cluster.deployment_of("green") == "pms-green"
    assert cluster.selector_of("green") == {"app": "pms", "version": "green"}
    assert cluster.selector_of(None) == {"app": "pms"}


def test_a_plan_never_changes():
    plan = load_plan(PMS)
    with pytest.raises(ValueError, match="frozen"):
        plan.cluster.replicas = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("key", ["id"], "key: no column id in columns"),
        ("key", ["status"], "key: status must be required"),
        ("rules.0.column", "nights", "rules: no column nights in columns"),
        ("columns.room_number.into", "user_id", "two columns go into user_id"),
        ("columns.status.required", True, "a column with a default is not required: write required: false"),
        ("columns.room_number.type", "integer", "a column that is looked up is text and has no default"),
        (
            "columns.check_in.type",
            "day",
            "Input should be 'text', 'integer', 'decimal', 'date', 'timestamp' or 'boolean'",
        ),
    ],
)
def test_an_import_that_cannot_work_is_refused(tmp_path, path, value, reason):
    error = error_of(tmp_path, changed(f"data.imports.bookings.{path}", value))
    assert "data.imports.bookings" in error
    assert reason in error


@pytest.mark.parametrize("source", ["s3://bucket/file.csv", "imports", "https://example.com/"])
def test_files_are_imported_from_folders_only(tmp_path, source):
    assert "data.sources.0: String should match pattern" in error_of(tmp_path, changed("data.sources.0", source))


def test_a_plan_may_have_no_data(tmp_path):
    plan = load_plan(written(tmp_path, changed("data", None)))
    assert plan.data is None


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("week_before_seconds", 60, "each must be the longer"),
        ("starting_before_seconds", 90_000, "each must be the longer"),
        ("response_seconds", 90_000, "must not reach beyond the start of the window"),
        ("retry_delay_seconds", 90_000, "must not be above retry_for_seconds"),
        ("retry_for_seconds", 0, "greater than 0"),
        ("available", [], "at least 1 item"),
        ("confirmed", "all", "valid tuple"),
        ("role", "nobody", "no role 'nobody' in team"),
        ("hour_before_seconds", 3600, "Extra inputs are not permitted"),
    ],
)
def test_announcements_that_cannot_be_made_are_refused(tmp_path, key, value, reason):
    assert reason in error_of(tmp_path, changed(f"announcements.{key}", value))


def test_a_plan_may_announce_nothing(tmp_path):
    assert load_plan(written(tmp_path, changed("announcements", None))).announcements is None


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("followups.review_seconds", 60, "debrief_seconds must be less than review_seconds"),
        ("followups.response_seconds", 0, "followups.response_seconds: Input should be greater than 0"),
        ("followups.ticket_search_path", "search", "followups.ticket_search_path: String should match pattern"),
    ],
)
def test_followups_that_cannot_work_are_refused(tmp_path, path, value, reason):
    assert reason in error_of(tmp_path, changed(path, value))


def test_the_roles_that_followups_ask_have_to_be_there(tmp_path):
    data = changed("team.devops.title", "DevOps")
    del data["team"]["devops"]
    assert "no role 'devops' in team" in error_of(tmp_path, data)
    del data["followups"]
    assert load_plan(written(tmp_path, data)).followups is None


def test_what_is_wrong_is_told_with_its_line_and_never_as_a_dump(tmp_path):
    text = PMS.read_text().replace("  max_p99_seconds: 1.0\n", "").replace("  weekday: tuesday\n", "  weekday: [x]\n")
    said = error_of(tmp_path, text)
    begins = text.splitlines().index('thresholds:                     # 2.3, 3.2, 5.1 and "When to Rollback"') + 1
    assert f"pms.yaml:{begins}: thresholds.max_p99_seconds: Field required\n" in f"{said}\n"
    assert f"pms.yaml:{text.splitlines().index('  weekday: [x]') + 1}: window.weekday: " in said
    assert "{" not in said


def test_a_key_that_stands_there_twice_is_refused(tmp_path):
    said = error_of(tmp_path, PMS.read_text() + "\nname: second\n")
    assert ": name is in line 4 and again in line " in said


@pytest.mark.parametrize(("key", "value", "read"), [
    ("cpu_limit", 2, "2"), ("cpu_limit", 0.5, "0.5"), ("cpu_limit", "500m", "500m"), ("memory_limit", "1.5Gi", "1.5Gi"),
    ("memory_limit", 1073741824, "1073741824"), ("memory_limit", "1e9", "1e9"), ("memory_limit", "512M", "512M"),
])  # fmt: skip
def test_a_limit_is_whatever_kubernetes_takes(tmp_path, key, value, read):
    cluster = load_plan(written(tmp_path, changed(f"cluster.{key}", value))).cluster
    assert getattr(cluster, key) == read
    assert quantity(getattr(cluster, key)) > 0


@pytest.mark.parametrize(("app", "lock"), [
    ("pms", "pms-deployment"), ("a--b", "a--b-deployment"), ("Web_Shop", "web-shop-deployment"),
    ("web.v1", "web-v1-deployment"),
])  # fmt: skip
def test_our_own_objects_are_named_after_the_application_as_far_as_that_is_a_name(tmp_path, app, lock):
    plan = load_plan(written(tmp_path, changed("cluster.app", app)))
    assert (plan.lock_name, plan.cluster.selector_of(None)) == (lock, {"app": app})


def numbers(data, path=()):
    """Where a plan has a number, of a section or deeper."""
    if isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from numbers(value, (*path, str(key)))
    elif isinstance(data, (int, float)) and not isinstance(data, bool):
        yield ".".join(path)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan], ids=["inf", "minus_inf", "nan"])
def test_no_number_of_a_plan_is_endless_or_none(value):
    """Such a limit is never broken, and such a time never over. What a call sends is the service's own."""
    taken = []
    for path in (one for one in numbers(GOOD) if ".body." not in one):
        with suppress(ValidationError):
            Plan.model_validate(changed(path, value))
            taken.append(path)
    assert taken == []
