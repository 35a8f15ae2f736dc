"""The Airflow connections of docs/architecture.md, pointing at the sandbox. In production only these differ."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from sandbox.services import edge
from sandbox.services.access import kubeconfig
from sandbox.services.databases import PRODUCTION, RECORD, RESTORE, STAGING
from sandbox.settings import TEST_EMAIL, Settings

Connection = dict[str, Any]
REGION = "us-east-1"
REGISTRY_USER = "deployer"
OUTSIDE = {
    "pms_status_page": "statuspage", "pms_sentry": "sentry", "pms_jira": "jira", "pms_datadog": "datadog",
    "pms_github": "github", "pms_prometheus": "prometheus", "pms_grafana": "grafana", "pms_pagerduty": "pagerduty",
    "pms_flags": "flags",
}  # fmt: skip
"""Connections that the recorder answers: id to the first part of its paths."""


def connections(settings: Settings) -> dict[str, Connection]:
    """Connection id to what `AIRFLOW_CONN_<ID>` takes as JSON."""
    from sandbox.services.airflow import AUTOMATION

    secrets = settings.secrets
    extra = {"test_email": TEST_EMAIL, "test_password": secrets.test_password}
    return {
        "pms_kubernetes": {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig(settings))}},
        "pms_primary": _postgres(settings, "primary", PRODUCTION, "pms", secrets.pms),
        "pms_replica": _postgres(settings, "replica", PRODUCTION, "pms", secrets.pms),
        "pms_record": _postgres(settings, "metadata", RECORD, "record", secrets.record),
        "pms_restore": _postgres(settings, "metadata", RESTORE, "restore", secrets.restore),
        "pms_staging_database": _postgres(settings, "metadata", STAGING, "pms", secrets.pms),
        "pms_dns": {"conn_type": "dns", "host": settings.host("dns"), "port": settings.port("dns")},
        "pms_edge": {
            "conn_type": "http", "host": settings.host("edge"), "port": settings.port("edge"),
            "extra": {"ca_file": str(edge.folder(settings) / "ca.pem")},
        },
        "pms_aws": {
            "conn_type": "aws", "login": "sandbox", "password": secrets.service,
            "extra": {"endpoint_url": settings.url("aws"), "region_name": REGION},
        },
        "pms_backup_key": {"conn_type": "generic", "password": secrets.backup_key},
        "pms_slack": {
            "conn_type": "slack", "password": f"xoxb-{secrets.service}",
            "extra": {"base_url": f"{settings.url('recorder')}/slack/api/"},
        },
        "pms_smtp": {
            "conn_type": "smtp", "host": settings.host("smtp"), "port": settings.port("smtp"),
            "extra": {"disable_ssl": True, "disable_tls": True, "timeout": 5, "retry_limit": 2},
        },
        "pms_api": {**_service(settings, "pms-api", secrets.admin_token), "extra": extra},
        "pms_preview": _service(settings, "pms-preview", ""),
        "pms_staging": _service(settings, "pms-staging", secrets.health_check_token),
        "pms_registry": _http(*registry(settings)),
        "pms_airflow": _http(settings.url("airflow"), AUTOMATION, secrets.airflow_password(AUTOMATION)),
        "pms_seed_admin": {"conn_type": "generic", "password": secrets.admin_password},
        "pms_seed_test": {"conn_type": "generic", "password": secrets.test_password},
        **{
            name: _http(f"{settings.url('recorder')}/{prefix}", "", secrets.service)
            for name, prefix in OUTSIDE.items()
        },
    }  # fmt: skip


def _postgres(settings: Settings, server: str, database: str, user: str, password: str) -> Connection:
    return {
        "conn_type": "postgres", "host": settings.host(server), "port": settings.port(server),
        "login": user, "password": password, "schema": database, "extra": {"sslmode": "disable"},
    }  # fmt: skip


def _service(settings: Settings, service: str, token: str) -> Connection:
    host, port = settings.service_address(service)
    return {"conn_type": "http", "schema": "http", "host": host, "port": port, "password": token}


def registry(settings: Settings) -> tuple[str, str, str]:
    """Address, user and password."""
    if settings.cluster:
        return settings.cluster.registry_url, settings.cluster.registry_user, settings.cluster.registry_password
    return settings.url("registry"), REGISTRY_USER, settings.secrets.registry


def _http(url: str, login: str, password: str) -> Connection:
    """`host` keeps a path in front of every call where there is one."""
    parts = urlsplit(url)
    if parts.path:
        return {"conn_type": "http", "host": url, "login": login, "password": password}
    return {
        "conn_type": "http", "schema": "http", "host": parts.hostname, "port": parts.port,
        "login": login, "password": password,
    }  # fmt: skip
