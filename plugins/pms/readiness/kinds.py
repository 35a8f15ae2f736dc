"""Every kind of check that a checklist may name. A new one is added here, and nowhere else."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pms.readiness.alerts import AlertRules
from pms.readiness.chat import OnCall, SlackChannels, StatusPage
from pms.readiness.dashboards import Dashboard
from pms.readiness.databases import MigrationsOnStaging, RollbackTested
from pms.readiness.errors import DatadogService, SentryProject
from pms.readiness.flags import FeatureFlags
from pms.readiness.github import (
    CheckRuns,
    CodeScanning,
    Coverage,
    MigrationsReviewed,
    PullRequestsApproved,
    SecretScanning,
)
from pms.readiness.kubernetes import LoadBalancer, NodesReady, ProductionServes
from pms.readiness.logs import LogRetention, LogsArrive
from pms.readiness.network import DnsRecords, TlsCertificates
from pms.readiness.secrets import DatabaseUrls, JwtSecret, SecretsPresent
from pms.readiness.storage import BackupElsewhere, BackupEncrypted, BackupPresent, RecoveryTargets

AnyCheck = Annotated[
    AlertRules | BackupElsewhere | BackupEncrypted | BackupPresent | CheckRuns | CodeScanning | Coverage | Dashboard
    | DatabaseUrls | DatadogService | DnsRecords | FeatureFlags | JwtSecret | LoadBalancer | LogRetention | LogsArrive
    | MigrationsOnStaging | MigrationsReviewed | NodesReady | OnCall | ProductionServes | PullRequestsApproved
    | RecoveryTargets | RollbackTested | SecretScanning | SecretsPresent | SentryProject | SlackChannels | StatusPage
    | TlsCertificates,
    Field(discriminator="kind"),
]  # fmt: skip
