"""The plan of one service as a typed, frozen object.

Each class is one section of ``include/plans/<plan>.yaml``; the sections follow the plan document.
Durations are seconds, sizes are bytes, rates are fractions of 1.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, StringConstraints, model_validator

from handover.models.incident import Severity
from handover.plan.backups import BackupRules
from handover.plan.change import Freeze, OverrideRules, ReadinessRules, WindowRules
from handover.plan.dag_ids import DagIds
from handover.plan.data import Data
from handover.plan.data_migrations import DataMigrations
from handover.plan.followups import Followups
from handover.plan.health import Health
from handover.plan.image import Image
from handover.plan.manifest import ColourManifest, JobManifest
from handover.plan.measures import MeasureEntry, measures_of
from handover.plan.migration import MigrationRules
from handover.plan.parts import INCLUDE as INCLUDE
from handover.plan.parts import (
    Command,
    ConnectionId,
    Count,
    Fraction,
    Growth,
    KubeName,
    LabelValue,
    Name,
    Quantity,
    Seconds,
    SecretName,
    Section,
    UrlPath,
    all_or_none,
    connections_of,
    required,
)
from handover.plan.people import Announcements, Asking, Messages, Question, Role
from handover.plan.pod_metrics import PodMetricsRules
from handover.plan.record import RecordRules
from handover.plan.rehearsal import RehearsalRules
from handover.plan.sources import MonitorName, Source, ask_for_all
from handover.plan.traffic import Traffic
from handover.plan.transport import Transport
from handover.plan.watch import WatchRules

FOLLOWED_BY = ("lead", "frontend", "devops", "qa")
"""Roles that the follow-ups ask."""


class Cluster(Section):
    connection: ConnectionId
    namespace: KubeName
    staging_namespace: KubeName
    app: LabelValue
    app_label: Annotated[str, StringConstraints(pattern=r"^([-a-z0-9.]+/)?[-A-Za-z0-9_.]+$")] = "app"
    """The label whose value is ``app``, on every pod of the service and in its Services' selectors."""
    colour_key: str
    colours: tuple[KubeName, KubeName]
    service: KubeName
    preview_service: KubeName
    deployment: Annotated[str, StringConstraints(pattern=r"^[-.a-z0-9]*\{colour\}[-.a-z0-9]*$")]
    container: KubeName
    port: Annotated[int, Field(ge=1, le=65535)]
    replicas: Count
    cpu_limit: Quantity
    memory_limit: Quantity
    settings_secret: SecretName | None = None
    """Environment of the service, and of its commands."""
    manifest: ColourManifest
    job_manifest: JobManifest
    rollout_timeout_seconds: Seconds
    job_timeout_seconds: Seconds

    @model_validator(mode="after")
    def _two_colours(self) -> Cluster:
        if self.colours[0] == self.colours[1]:
            raise ValueError("colours must be two different names")
        return self

    @property
    def prefix(self) -> str:
        """What the names of our own objects begin with: ``app``, as a name of Kubernetes has it."""
        return re.sub(r"[^-a-z0-9]", "-", self.app.lower())

    def deployment_of(self, colour: str) -> str:
        """Name of the Deployment that carries this colour."""
        return self.deployment.format(colour=colour)

    def other(self, colour: str) -> str:
        """The colour that is not this one."""
        return self.colours[1] if colour == self.colours[0] else self.colours[0]

    def selector_of(self, colour: str | None) -> dict[str, str]:
        """Labels of the pods of one colour, or of both when ``colour`` is None."""
        return {self.app_label: self.app} | ({self.colour_key: colour} if colour else {})


class Staging(Section):
    connection: ConnectionId
    health_path: UrlPath
    test_commands: Annotated[dict[Name, Command], Field(min_length=1)]
    log_group: str
    error_pattern: str
    max_recent_errors: Annotated[int, Field(ge=0)]
    recent_seconds: Seconds
    aws_connection: ConnectionId


class BannerRules(Section):
    method: Literal["PUT", "POST", "PATCH"]
    path: UrlPath
    message: str
    expected_minutes: str


class Thresholds(Section):
    max_error_rate: Fraction
    max_p50_seconds: Seconds
    max_p99_seconds: Seconds
    max_cpu: Fraction
    max_memory: Fraction
    min_cache_hit_rate: Fraction
    max_replication_lag_seconds: Seconds
    max_migration_lag_seconds: Seconds
    max_connection_growth: Growth
    min_connection_growth: Count
    max_io_growth: Growth
    min_io_bytes_per_second: ByteSize
    alert_degradation: Growth
    rollback_degradation: Growth
    noise_floor_seconds: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _alert_before_rollback(self) -> Thresholds:
        if self.alert_degradation > self.rollback_degradation:
            raise ValueError("alert_degradation must not be above rollback_degradation")
        if self.max_p50_seconds > self.max_p99_seconds:
            raise ValueError("max_p50_seconds must not be above max_p99_seconds")
        return self


SCENARIO_VARIABLES = frozenset({"test_email", "test_password", "day", "next_day"})
"""Known before the first call: the test user of the API's connection, a day and the one after it."""


class ScenarioStep(Section):
    """One call of the scenario. ``{variable}`` in path and body stands for what an earlier call saved."""

    name: Name
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: UrlPath
    body: dict[str, Any] | None = None
    expect: Annotated[int, Field(ge=100, le=599)]
    save: dict[Name, str] = Field(default_factory=dict)
    """Variable to path in the answer, such as ``id``, ``0.id`` or ``*.id`` (any item of a list)."""


class Functional(Section):
    days_ahead: Count
    days_span: Count
    steps: Annotated[tuple[ScenarioStep, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _variables_are_known(self) -> Functional:
        known = set(SCENARIO_VARIABLES)
        for step in self.steps:
            used = set(re.findall(r"\{([a-z][a-z0-9_]*)\}", f"{step.path} {step.body}"))
            if unknown := sorted(used - known):
                raise ValueError(f"step {step.name!r} uses {', '.join(unknown)}, which no step before it saves")
            known |= step.save.keys()
        return self


class PerformanceRules(Section):
    paths: Annotated[tuple[UrlPath, ...], Field(min_length=1)]
    requests: Count
    concurrency: Count


class Incidents(Section):
    """What a breach after the deployment means, by the name of the measurement that broke its limit."""

    severities: dict[str, Severity] = Field(default_factory=dict)
    """What is not named here is critical."""
    role: str
    response_seconds: Seconds
    fix_seconds: Seconds
    healthy_seconds: Seconds

    def severity_of(self, rule: str) -> Severity:
        return self.severities.get(rule, Severity.CRITICAL)


class RollbackRules(Section):
    window_seconds: Seconds
    airflow_connection: ConnectionId
    verify_timeout_seconds: Seconds
    old_colour_timeout_seconds: Seconds


class Plan(DagIds, Section):
    """How one service goes to production and comes back."""

    name: Name
    title: str
    image: Image
    cluster: Cluster
    window: WindowRules
    freeze: Freeze = Freeze()
    readiness: ReadinessRules
    overrides: OverrideRules = OverrideRules()
    team: dict[Name, Role]
    staging: Staging | None = None
    backup: BackupRules | None = None
    briefing: Question
    banner: BannerRules | None = None
    traffic: Traffic
    transport: Transport = Transport()
    health: Health
    thresholds: Thresholds
    watch: WatchRules
    measures: tuple[MeasureEntry, ...] = ()
    sources: dict[MonitorName, Source] = Field(default_factory=dict)
    pod_metrics: PodMetricsRules = PodMetricsRules()
    migration: MigrationRules | None = None
    rehearsal: RehearsalRules | None = None
    functional: Functional | None = None
    performance: PerformanceRules
    acceptance: Question
    asking: Asking = Asking()
    messages: Messages
    incidents: Incidents
    rollback: RollbackRules
    record: RecordRules | None = None
    data: Data | None = None
    data_migrations: DataMigrations | None = None
    announcements: Announcements | None = None
    followups: Followups | None = None

    @model_validator(mode="after")
    def _roles_exist(self) -> Plan:
        for who, role in self.team.items():
            if role.escalates_to is not None and role.escalates_to not in self.team:
                raise ValueError(f"team.{who}.escalates_to: no role {role.escalates_to!r} in team")
            if role.escalates_to == who:
                raise ValueError(f"team.{who}.escalates_to: a role cannot be above itself")
        announcing = [self.announcements.role] if self.announcements else []
        moving = [self.data_migrations.role] if self.data_migrations else []
        asked = [*(FOLLOWED_BY if self.followups else ("lead",)), *announcing, *moving, self.overrides.role]
        for section in (*asked, self.briefing.role, self.acceptance.role, self.incidents.role):
            if section not in self.team:
                raise ValueError(f"no role {section!r} in team")
        if self.rollback.window_seconds >= self.watch.stabilization_seconds:
            raise ValueError("rollback.window_seconds must be less than watch.stabilization_seconds")
        return self

    @model_validator(mode="after")
    def _a_database_is_whole(self) -> Plan:
        """No migration without a backup; imports are of the same database."""
        all_or_none(self, "migration", "backup")
        if self.data and not self.migration:
            raise ValueError("data without migration: that section says where the database is")
        if self.data_migrations and not self.migration:
            raise ValueError("data_migrations without migration: that section says where the database is")
        if self.rehearsal and not self.migration:
            raise ValueError("rehearsal without migration: that section says where the database is")
        return self

    @model_validator(mode="after")
    def _followups_read_the_record(self) -> Plan:
        if self.followups and not self.record:
            raise ValueError("followups without record: they read what the deployment has left there")
        return self

    @model_validator(mode="after")
    def _reports_have_a_way_to_their_bucket(self) -> Plan:
        record = self.record
        if record and record.bucket and not (record.bucket_connection or self.backup):
            raise ValueError("record.bucket without record.bucket_connection: there is no backup to take it from")
        if record and record.bucket_connection and not record.bucket:
            raise ValueError("record.bucket_connection without record.bucket: say which bucket it is for")
        return self

    @model_validator(mode="after")
    def _measures_can_be_judged(self) -> Plan:
        ask_for_all(measures_of(self), self.sources)
        return self

    def above(self, role: str) -> Role | None:
        """The next role up, if there is one."""
        name = self.team[role].escalates_to
        return self.team[name] if name else None

    def may_answer(self, role: str) -> tuple[Role, ...]:
        """Who may answer a question to this role: itself first, then the role that it escalates to."""
        roles = (self.team[role], self.above(role) if self.asking.escalates_at is not None else None)
        return tuple(one for one in roles if one and one.users)

    def said_by(self, colour: str, version: str) -> str:
        """What answers of a version on the pods of a colour say of where they come from (`plan.traffic.Origin`); empty
        where they say nothing, or nobody knows the version.
        """
        origin = self.traffic.origin
        if origin is None:
            return ""
        return self.cluster.deployment_of(colour) if origin.names_pod else version

    @property
    def readiness_name(self) -> str:
        """ConfigMap of the last verdict on a release."""
        return f"{self.cluster.prefix}-readiness"

    @property
    def lock_name(self) -> str:
        """Lease and ConfigMap of the current deployment."""
        return f"{self.cluster.prefix}-deployment"

    @property
    def staging_tests(self) -> dict[str, Command]:
        """Name to command; none without staging."""
        return self.staging.test_commands if self.staging else {}

    @property
    def database(self) -> MigrationRules:
        """Raises `LeftOut` for a service without one."""
        return required(self.migration, "migration")

    @property
    def backups(self) -> BackupRules:
        """Raises `LeftOut` likewise."""
        return required(self.backup, "backup")

    @property
    def migrates_first(self) -> bool:
        """Whether phase 3 comes before phase 2."""
        return self.migration is not None and self.migration.before_cutover

    @property
    def recorded(self) -> RecordRules:
        """Raises `LeftOut` where nothing is recorded."""
        return required(self.record, "record")

    @property
    def connections(self) -> tuple[str, ...]:
        """Every Airflow connection that a deployment needs, each once."""
        return tuple(dict.fromkeys(connections_of(self)))

    @property
    def asking_seconds(self) -> float:
        """The rest of the stabilization, in which a rollback is asked for (plan "When to Rollback", 5.3)."""
        return self.watch.stabilization_seconds - self.rollback.window_seconds
