"""Miniflux: PostgreSQL, migrations of its own that have to come first, no word of its version or its requests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg

from sandbox.kubernetes import build
from sandbox.others.service import OtherService
from sandbox.services.aws import BUCKET
from sandbox.services.connections import Connection, connections
from sandbox.services.databases import superuser_dsn
from sandbox.settings import Settings

FIRST, NEXT = "2.2.19", "2.3.5"
NAME = "miniflux"
PEOPLE = """
INSERT INTO users (username, password) SELECT md5(n::text), md5(random()::text) FROM generate_series(1, 4000) n
"""
"""Enough for the least size of a backup."""
PROGRAM = ("miniflux", "-migrate")


def programs() -> dict[str, Path]:
    return build.miniflux((FIRST, NEXT), print)


def prepare(settings: Settings) -> Mapping[str, str]:
    """Its database with the schema of the first version; gives the settings that are secret."""
    password = settings.secrets.pms
    with psycopg.connect(superuser_dsn(settings, "primary", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {NAME} LOGIN PASSWORD '{password}'".encode())
        connection.execute(f"CREATE DATABASE {NAME} OWNER {NAME}".encode())
    url = settings.dsn("primary", NAME, NAME, password)
    subprocess.run([programs()[FIRST], "-migrate"], env={**os.environ, "DATABASE_URL": url}, check=True)
    with psycopg.connect(superuser_dsn(settings, "primary", NAME), autocommit=True) as connection:
        connection.execute(PEOPLE)
    return {"DATABASE_URL": url}


def databases(settings: Settings) -> dict[str, Connection]:
    known = connections(settings)
    primary = known["pms_primary"] | {"login": NAME, "schema": NAME}
    return {f"{NAME}_primary": primary, f"{NAME}_aws": known["pms_aws"], f"{NAME}_restore": known["pms_restore"]}


MINIFLUX = OtherService(
    name=NAME,
    image="ghcr.io/miniflux/miniflux",
    port=8080,
    releases={FIRST: {}, NEXT: {}},
    programs=programs,
    secret=prepare,
    container={
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LISTEN_ADDR", "value": "$(POD_IP):8080"},
            {"name": "DISABLE_SCHEDULER_SERVICE", "value": "1"},
        ],
        "readinessProbe": {"httpGet": {"path": "/healthcheck", "port": "http"}, "periodSeconds": 1},
    },
    more=databases,
    lines={
        "migration": {
            "primary_connection": f"{NAME}_primary", "counted_tables": ["users", "feeds"], "before_cutover": True,
            "tool": {"command": list(PROGRAM), "history_query": "SELECT version::text FROM schema_version"},
        },
        "backup": {
            "connection": f"{NAME}_aws", "bucket": BUCKET, "prefix": f"{NAME}/", "min_bytes": "10KB",
            "compression": "auto", "restore_connection": f"{NAME}_restore", "timeout_seconds": 600,
        },
    },
)  # fmt: skip
