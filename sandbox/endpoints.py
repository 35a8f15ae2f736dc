"""What one needs to look at a sandbox, load it and break it from outside: `endpoints.json`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox.hotel.build import REPOSITORY
from sandbox.services.access import access, kubeconfig
from sandbox.services.databases import AIRFLOW, PRODUCTION, RECORD, RESTORE, superuser_dsn
from sandbox.services.registry import catalogue
from sandbox.settings import NODE_PORTS, ROLES, TEST_EMAIL, Settings

FILE = "endpoints.json"
Endpoints = dict[str, Any]


def describe(settings: Settings, processes: dict[str, int]) -> Endpoints:
    """The contract is in docs/architecture.md, "Sandbox". DSNs are the superuser's."""
    password = settings.secrets.airflow_password
    restore = settings.dsn("metadata", RESTORE, "restore", settings.secrets.restore)
    return {
        "airflow": {
            "url": settings.url("airflow"),
            "user": "admin",
            "password": password("admin"),
            "users": {role: {"user": role, "password": password(role)} for role in ROLES},
            "home": str(settings.home / "airflow"),
        },
        "kubeconfig": str(kubeconfig(settings)),
        "kubernetes": asdict(access(settings)) if kubeconfig(settings).exists() else None,
        "postgres": {
            "primary": superuser_dsn(settings, "primary", PRODUCTION),
            "replica": superuser_dsn(settings, "replica", PRODUCTION),
            "metadata": superuser_dsn(settings, "metadata", AIRFLOW),
            "restore": restore,
            "record": settings.dsn("metadata", RECORD, "record", settings.secrets.record),
        },
        "s3": settings.url("aws"),
        "public": settings.service_url("pms-api"),
        "preview": settings.service_url("pms-preview"),
        "staging": settings.service_url("pms-staging"),
        "recorder": settings.url("recorder"),
        "audit_log": str(
            settings.cluster.audit_log if settings.cluster else kubeconfig(settings).with_name("audit.log")
        ),
        "images": _images(settings),
        "registry": settings.cluster.registry_url if settings.cluster else settings.url("registry"),
        "guests": _guests(settings),
        "smtp": f"{settings.host('smtp')}:{settings.port('smtp')}",
        "hotel": {
            "test_email": TEST_EMAIL,
            "test_password": settings.secrets.test_password,
            "admin_token": settings.secrets.admin_token,
            "health_check_token": settings.secrets.health_check_token,
        },
        "logs": str(settings.home / "logs"),
        "processes": processes,
    }


def _images(settings: Settings) -> dict[str, str]:
    """Every release, pinned."""
    path = catalogue(settings)
    entries = json.loads(path.read_text())["images"] if path.exists() else []
    releases = [entry for entry in entries if entry["repository"] == REPOSITORY]
    return {entry["tag"]: f"{entry['repository']}@{entry['digest']}" for entry in releases}


def _guests(settings: Settings) -> dict[str, Any]:
    """Where guests send their requests, and what goes in front of their command.

    On a real cluster of ours they stay inside of its network, and use the node's port on loopback.
    """
    if settings.cluster and settings.cluster.init_pid:
        enter = ["nsenter", f"--net=/proc/{settings.cluster.init_pid}/ns/net", "--"]
        return {"url": f"http://127.0.0.1:{NODE_PORTS['pms-api']}", "enter": enter}
    return {"url": settings.service_url("pms-api"), "enter": []}


def write(path: Path, endpoints: Endpoints) -> None:
    """Replaces the file as a whole; for its owner's eyes only, as it is full of passwords."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(endpoints, file, indent=2)
        file.write("\n")
    os.replace(draft, path)


def read(home: Path) -> Endpoints | None:
    """None when no sandbox is up there."""
    try:
        return dict(json.loads((home / FILE).read_text()))
    except FileNotFoundError:
        return None
