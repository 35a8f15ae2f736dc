"""<plan>_deployment: a release goes to production, phase by phase as in the deployment plan."""

from __future__ import annotations

from airflow.sdk import TaskGroup, chain

from handover.checks.operators import (
    Baseline,
    CriticalPaths,
    ErrorTracker,
    KeyEndpoints,
    Performance,
    RecentErrors,
    ResponseTimes,
)
from handover.checks.sensors import Healthy, StagingHealthy
from handover.database.operators import Backup, DataIntegrity, Migrate, SchemaCheck, TestRestore
from handover.database.sensors import ReplicationLag
from handover.models.deployment import Status
from handover.models.measures import Phase
from handover.people import messages
from handover.people.operators import Announce, Banner, Confirm
from handover.plan.model import Plan
from handover.traffic.operators import PointPreview, SettleTraffic, SwitchTraffic
from handover.workflows.dags import aside, for_each_plan, remind_of_questions, report_after
from handover.workflows.deployment.closing import Close
from handover.workflows.deployment.dag import (
    deployment_dag,
    during,
    during_migration,
    one_after_the_other,
    rest_on_evidence,
    roll_back_on_failure,
    window_if_first,
)
from handover.workflows.deployment.deciding import WindowOpen
from handover.workflows.deployment.opening import GiveUp, Open, ReleaseDue
from handover.workflows.deployment.second_person import SecondPerson
from handover.workflows.watch.incident_steps import DocumentIncidents, FixOrRollback, FixWorks, MonitoringAfterFix
from handover.workflows.watch.preflight import WatchPreflight
from handover.workflows.watch.steps import Monitoring, Soak, Stabilization, Watch, baseline_sources
from handover.workload.image import BuildImage, ImagePresent, ScanImage, VerifySignature
from handover.workload.operators import DeployIdleColour, ReleaseCommand
from handover.workload.scale_down import RetireColour
from handover.workload.sensors import RolloutComplete


def incident_response(plan: Plan) -> TaskGroup:
    """After the decision point a rollback is not automatic any more: it is asked for."""
    with TaskGroup("incident_response", tooltip="5.3") as group:
        chain(
            Monitoring(task_id="monitoring", seconds=plan.asking_seconds),
            FixOrRollback(task_id="fix_or_rollback"),
            FixWorks(task_id="fix_works"),
            MonitoringAfterFix(task_id="monitoring_after_fix"),
            DocumentIncidents(task_id="document_incidents"),
        )
    return group


def retirement() -> TaskGroup:
    """What has stood its test stays. Nobody is asked any more: a critical breach is rolled back at once again."""
    with TaskGroup("retirement", tooltip="after 5.1", default_args=during(Phase.RETIREMENT)) as group:
        chain(
            Banner(task_id="banner", show=False),
            RetireColour(task_id="retire_old_colour"),
            SettleTraffic(task_id="settle_traffic"),
            Announce(task_id="announce_success", message=messages.succeeded),
        )
    return group


def build(plan: Plan) -> None:
    api, health, limits = plan.traffic.api_connection, plan.health, plan.thresholds
    with deployment_dag(plan) as dag:
        release_due = ReleaseDue(task_id="release_due", on_failure_callback=None)
        second_person = SecondPerson(task_id="second_person", release_from="release_due", on_failure_callback=None)
        opened = Open(task_id="open", on_failure_callback=None)
        with aside(dag):
            give_up = GiveUp(task_id="give_up", on_failure_callback=None)
        release_due >> second_person >> opened >> give_up

        with TaskGroup("phase_1_pre_deployment", tooltip="T-2 hours") as phase_1:
            build = BuildImage(task_id="build_image")  # 2.2 steps 1 and 2: what staging tests is what is deployed
            with TaskGroup("staging_verification", tooltip="1.1") as staging:
                for name, command in plan.staging_tests.items():
                    ReleaseCommand(task_id=f"{name}_tests", command=command, namespace=plan.cluster.staging_namespace)
                StagingHealthy(task_id="staging_health")
                RecentErrors(task_id="recent_errors")
            with TaskGroup("database_backup", tooltip="1.2") as backup:
                Backup(task_id="backup", kind="backup") >> TestRestore(task_id="test_restore")
            preflight = WatchPreflight(task_id="watch_preflight")
            briefing = Confirm(
                task_id="team_briefing", question=plan.briefing, subject="1.3 Team briefing: ready to deploy?",
                proceeds="once the window is open it is deployed beside what serves, and gets traffic when it passes.",
            )  # fmt: skip
            build >> staging
            [staging, backup, preflight] >> briefing

        with TaskGroup("phase_2_application_deployment", tooltip="T+0 to T+45 minutes") as phase_2:
            window = WindowOpen(task_id="window_open")
            with TaskGroup("maintenance_mode", tooltip="2.1") as maintenance:
                Banner(task_id="banner", show=True)
                Announce(task_id="announce_start", message=messages.started)
            with TaskGroup("deploy_new_version", tooltip="2.2") as deploy:
                smoke_tests = ReleaseCommand(
                    task_id="smoke_tests",
                    command=plan.traffic.smoke_command,
                    url_connection=plan.traffic.preview_connection,
                )
                chain(
                    ImagePresent(task_id="image_present"),
                    ScanImage(task_id="scan_image"),
                    VerifySignature(task_id="verify_signature"),
                    Baseline(task_id="baseline", sources=baseline_sources),
                    DeployIdleColour(task_id="deploy_idle_colour"),
                    RolloutComplete(task_id="rollout_status"),
                    PointPreview(task_id="point_preview", colour="new"),
                    smoke_tests,
                )
                switch = SwitchTraffic(task_id="switch_traffic")
                smoke_tests >> switch
                switch >> [
                    Soak(task_id="soak", seconds=plan.watch.after_switch_seconds),
                    Announce(task_id="announce_switch", message=messages.switched),
                ]
            with TaskGroup(
                "verify_application_health", tooltip="2.3", default_args=during(Phase.VERIFICATION)
            ) as verify:
                Healthy(task_id="health", connection=api, path=health.path, expect_version=True)
                ReleaseCommand(task_id="database_health", command=health.database_command)
                ErrorTracker(task_id="error_tracker")
                ResponseTimes(task_id="response_times")
                KeyEndpoints(task_id="key_endpoints")
                ReplicationLag(task_id="replication_lag", limit_seconds=limits.max_replication_lag_seconds)
            window >> maintenance >> deploy >> verify
        watch = Watch(task_id="watch")  # from before the first patch until the deployment has ended, beside all phases
        smoke_tests >> watch

        with TaskGroup(
            "phase_3_database_migration", tooltip="T+45 to T+90 minutes", default_args=during_migration(plan)
        ) as phase_3:
            with TaskGroup("pre_migration_validation", tooltip="3.1") as before:
                SchemaCheck(task_id="schema_check") >> Backup(task_id="restore_point", kind="restore_point")
            migrate = Migrate(task_id="execute_migration")
            with TaskGroup("post_migration_validation", tooltip="3.3") as after:
                DataIntegrity(task_id="data_integrity")
                ReplicationLag(task_id="replication_lag", limit_seconds=limits.max_replication_lag_seconds)
                PointPreview(task_id="point_preview", colour="old") >> ReleaseCommand(
                    task_id="old_version_on_new_schema",
                    command=plan.traffic.smoke_command,
                    url_connection=plan.traffic.preview_connection,
                    image="old",
                    remember_compatible=True,
                )
            client = ReleaseCommand(task_id="client_check", command=health.client_command)
            before >> migrate >> after >> client
            window_if_first(plan, before)

        with TaskGroup(
            "phase_4_post_deployment_testing", tooltip="T+90 to T+120 minutes", default_args=during(Phase.TESTING)
        ) as phase_4:
            chain(
                CriticalPaths(task_id="critical_paths"),
                Performance(task_id="performance"),
                Confirm(
                    task_id="user_acceptance",
                    question=plan.acceptance,
                    subject="4.3 User acceptance: does it work?",
                    proceeds="it goes on serving, is watched further, and then stays.",
                ),
            )

        with TaskGroup(
            "phase_5_monitoring", tooltip="T+120 minutes and on", default_args=during(Phase.MONITORING)
        ) as phase_5:
            close = Close(task_id="close", status=Status.SUCCEEDED)
            chain(
                Stabilization(
                    task_id="stabilization", seconds=plan.rollback.window_seconds, watched_in=Phase.STABILIZATION
                ),
                incident_response(plan),
                retirement(),
                close,
            )

        opened >> phase_1
        one_after_the_other(plan, phase_1, phase_2, phase_3, phase_4, phase_5)
        report_after(plan, close, watch)
        refused_by = ["release_due", "second_person", "open", "give_up"]
        roll_back_on_failure(plan, dag, except_for=[*refused_by, "report", "publish_end", "end"])
        remind_of_questions(plan, dag)
        rest_on_evidence(dag)


for_each_plan(build, report_broken=True)
