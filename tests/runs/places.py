"""Everything of a sandbox that somebody may read who holds none of its secrets, and what its secrets are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import yaml
from psycopg import sql

from sandbox.runs import Team
from sandbox.services.access import access, kubeconfig
from sandbox.services.airflow import AUTOMATION
from sandbox.services.aws import BUCKET, IMPORTS, REPORTS, client
from sandbox.services.aws import secrets as in_the_vault
from sandbox.services.connections import connections
from sandbox.services.databases import AIRFLOW, PRODUCTION, RECORD, STAGING, superuser_dsn
from sandbox.settings import ROLES, TEST_EMAIL, Settings
from tests.support.planted import SHORTEST, Place

ENVIRONMENT = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET",
               "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "HANDOVER_EVIDENCE_KEY")  # fmt: skip
PAGE = "/handover"
OURS = ("airflow", "watch")
"""Beginnings of names of logs."""
SPOKEN = "handover-for-the-search"
"""User agent of what this module asks, so that nobody takes it for the product."""


def secrets_of(sandbox: Any) -> dict[str, str]:
    """Name to secret: passwords, tokens and keys of everybody, and what tells one guest of the hotel from another."""
    settings = sandbox.settings
    named = {field.name: getattr(settings.secrets, field.name) for field in dataclasses.fields(settings.secrets)}
    named |= {f"Airflow's {user}": settings.secrets.airflow_password(user) for user in ("admin", AUTOMATION, *ROLES)}
    for name, connection in connections(settings).items():
        named[f"{name}'s password"] = connection.get("password", "")
    for vault, values in in_the_vault(settings).items():
        named |= {f"{vault} {key}": value for key, value in values.items()}
    named |= _of_processes(sandbox) | _of_kubeconfig(settings) | _of_people(settings)
    assert all(len(secret) >= SHORTEST for secret in named.values() if secret), named.keys()
    return {name: secret for name, secret in named.items() if secret}


def _of_processes(sandbox: Any) -> dict[str, str]:
    """What only their environment has; some of them have written their title over it."""
    found = {}
    for name, pid in sandbox.endpoints["processes"].items():
        if name.startswith("airflow-"):
            held = dict(one.partition("=")[::2] for one in Path(f"/proc/{pid}/environ").read_text().split("\0"))
            found |= {key: held[key] for key in ENVIRONMENT if key in held}
    assert set(found) == set(ENVIRONMENT), found.keys()
    return found


def _of_kubeconfig(settings: Settings) -> dict[str, str]:
    users = yaml.safe_load(kubeconfig(settings).read_text())["users"]
    keys = ("token", "password", "client-key-data")
    held = {f"kubeconfig's {key}": one["user"].get(key, "") for one in users for key in keys}
    return held | {"access to the cluster": access(settings).token}


def _of_people(settings: Settings) -> dict[str, str]:
    """Their addresses, by the part that every guest's has, and the hashes of passwords that somebody knows."""
    found = {}
    for server, database in (("primary", PRODUCTION), ("metadata", STAGING)):
        with psycopg.connect(superuser_dsn(settings, server, database)) as connection:
            query = "SELECT DISTINCT split_part(email, '@', 2) FROM users WHERE email LIKE 'guest%'"
            domains = [domain for (domain,) in connection.execute(query)]
            assert domains and TEST_EMAIL.partition("@")[2] not in domains, domains
            found |= {f"guests of {database} at {domain}": f"@{domain}" for domain in domains}
            kept = connection.execute("SELECT email, password_hash FROM users WHERE email NOT LIKE 'guest%'").fetchall()
            found |= {f"hash of {email} in {database}": digest for email, digest in kept}
    return found


def places(sandbox: Any, team: Team, recorded: Any) -> Iterator[Place]:
    """Of everything that has run on this sandbox since it is up; what was told outside, since `recorded` began."""
    settings = sandbox.settings
    yield from _files("log", settings.home / "logs")
    yield from _rows("Airflow's", superuser_dsn(settings, "metadata", AIRFLOW))
    yield from _rows("the ledger's", superuser_dsn(settings, "metadata", RECORD))
    yield from _objects(settings)
    yield from _buckets(settings)
    yield from _pages(team)
    for number, call in enumerate(recorded()):
        yield Place(f"{call['service']} {call['method']} {call['path']} ({number})", json.dumps(call))


def _files(kind: str, folder: Path) -> Iterator[Place]:
    """Every try of every task, of triggers and callbacks too, and what our processes print; not those of stand-ins."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and str(name).startswith(OURS):
            yield Place(f"{kind} {name}", path.read_text(errors="replace"))


def _rows(whose: str, dsn: str) -> Iterator[Place]:
    """Every table, whatever it is for: XComs, rendered fields, confs, notes, questions, audit, what is deferred."""
    with psycopg.connect(dsn) as connection:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        for (table,) in connection.execute(query).fetchall():
            for number, (row,) in enumerate(
                connection.execute(sql.SQL("SELECT to_jsonb(t)::text FROM {} t").format(sql.Identifier(table)))
            ):
                yield Place(f"{whose} {table} ({number})", row)


def _objects(settings: Settings) -> Iterator[Place]:
    """Of every kind that the cluster knows, but its Secrets; and what its pods have printed."""
    with access(settings).client({"User-Agent": SPOKEN}) as kube:
        groups = [f"/apis/{one['preferredVersion']['groupVersion']}" for one in _read(kube, "/apis")["groups"]]
        for group in ("/api/v1", *groups):
            for kind in _read(kube, group)["resources"]:
                if "list" in kind["verbs"] and kind["kind"] != "Secret":
                    for item in _read(kube, f"{group}/{kind['name']}")["items"]:
                        about = item["metadata"]
                        yield Place(f"{kind['kind']} {about.get('namespace', '')}/{about['name']}", json.dumps(item))
                        if kind["kind"] == "Pod":
                            path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/log"
                            yield Place(f"what {about['name']} prints", kube.get(path).text)


def _buckets(settings: Settings) -> Iterator[Place]:
    """Every version of every object: its name, headers, tags, and itself where it is text."""
    s3 = client(settings, "s3")
    for bucket in (BUCKET, REPORTS, IMPORTS):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for one in page.get("Versions", []):
                which = {"Bucket": bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
                found = s3.get_object(**which)
                tags = s3.get_object_tagging(**which)["TagSet"]
                yield Place(f"about s3://{bucket}/{one['Key']}", json.dumps([found["Metadata"], tags]))
                try:
                    yield Place(f"s3://{bucket}/{one['Key']}", found["Body"].read().decode())
                except UnicodeDecodeError:
                    continue


def _pages(team: Team) -> Iterator[Place]:
    """What the page shows of every plan and deployment, and what Airflow's API tells a viewer of its settings."""
    for path in ("/plans", "/plans/pms/now", "/plans/pms/numbers", "/plans/pms/deployments"):
        yield Place(f"page {path}", json.dumps(team.admin.call("GET", path, at=PAGE)))
    for row in team.admin.call("GET", "/plans/pms/deployments", at=PAGE)["rows"]:
        path = f"/plans/pms/deployments/{quote(row['run'], safe='')}"
        yield Place(f"page {path}", json.dumps(team.admin.call("GET", path, at=PAGE)))
    for path in ("/variables", "/connections", "/plugins", "/importErrors", "/pools", "/eventLogs"):
        yield Place(f"Airflow's API {path}", json.dumps(team.admin.call("GET", path, params={"limit": 1000})))


def _read(kube: httpx.Client, path: str) -> Any:
    return kube.get(path).raise_for_status().json()
