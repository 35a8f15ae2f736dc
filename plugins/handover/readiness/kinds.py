"""Every kind of check that a checklist may name. A new one is added here, and nowhere else."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from handover.readiness.alerts import AlertRules
from handover.readiness.chat import OnCall, SlackChannels, StatusPageIsOurs
from handover.readiness.dashboards import Dashboard
from handover.readiness.databases import MigrationsOnStaging, RollbackTested
from handover.readiness.errors import DatadogService, SentryProject
from handover.readiness.flags import FeatureFlags
from handover.readiness.github import (
    CheckRuns,
    CodeScanning,
    Coverage,
    MigrationsReviewed,
    PullRequestsApproved,
    SecretScanning,
)
from handover.readiness.kubernetes import LoadBalancer, NodesReady, ProductionServes
from handover.readiness.logs import LogRetention, LogsArrive
from handover.readiness.network import DnsRecords, TlsCertificates
from handover.readiness.secrets import DatabaseUrls, JwtSecret, SecretsPresent
from handover.readiness.storage import BackupElsewhere, BackupEncrypted, BackupPresent, RecoveryTargets

AnyCheck = Annotated[
    AlertRules | BackupElsewhere | BackupEncrypted | BackupPresent | CheckRuns | CodeScanning | Coverage | Dashboard
    | DatabaseUrls | DatadogService | DnsRecords | FeatureFlags | JwtSecret | LoadBalancer | LogRetention | LogsArrive
    | MigrationsOnStaging | MigrationsReviewed | NodesReady | OnCall | ProductionServes | PullRequestsApproved
    | RecoveryTargets | RollbackTested | SecretScanning | SecretsPresent | SentryProject | SlackChannels
    | StatusPageIsOurs | TlsCertificates,
    Field(discriminator="kind"),
]  # fmt: skip
