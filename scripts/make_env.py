#!/usr/bin/env python3
"""Prepares docker-compose.yaml: fresh secrets, a user for each role, and a folder for what only you know.

.env gets the secrets and is readable by you alone. production/airflow.env names the connections to fill in; put the
cluster's kubeconfig beside it. What exists is left alone: new secrets would lock Airflow out of its own database.
Needs Python only.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AUTOMATION = "automation"
"""The account with which callbacks start the rollback; `python -m handover accounts` makes it from its connection."""
TEAM = ["Viewer", "pms_approver", "pms_rollback"]
"""Whoever is asked something may roll back as well: that is the safe way."""
ROLES = {
    "admin": ["Admin"],
    "lead": [*TEAM, "pms_deployer"],
    "dba": [*TEAM, "pms_data"],
    **dict.fromkeys(["backend", "frontend", "devops", "qa", "cto"], TEAM),
}
"""Name to roles, which docs/security.md tells."""
IMAGE_USER = 50000
"""Of the image; takes root's place, as whom nothing here should run."""

_POSTGRES = {"conn_type": "postgres", "host": "", "port": 5432, "login": "", "password": "", "schema": ""}
_HTTP = {"conn_type": "http", "schema": "https", "host": "", "port": 443, "login": "", "password": ""}
CONNECTIONS = {
    "kubernetes": {"conn_type": "kubernetes", "extra": {"kube_config_path": "/opt/airflow/production/kubeconfig"}},
    **dict.fromkeys(["primary", "replica", "restore", "record"], _POSTGRES),
    "backup_key": {"conn_type": "generic", "password": ""},
    "aws": {"conn_type": "aws", "login": "", "password": "", "extra": {"region_name": ""}},
    "slack": {"conn_type": "slack", "password": "xoxb-"},
    "smtp": {"conn_type": "smtp", "host": "", "port": 587, "login": "", "password": ""},
    "api": {**_HTTP, "extra": {"test_email": "", "test_password": ""}},
    **dict.fromkeys(
        ["preview", "staging", "registry", "status_page", "sentry", "jira", "datadog", "prometheus"], _HTTP
    ),
}
"""What the plan asks for, to be filled in; docs/architecture.md says what each is for."""
HEADER = """\
# Given to Airflow as environment variables. Remove the # and fill in; docs/architecture.md says what each is for.
# Single quotes keep a $ as it is. Apply changes with: docker compose up -d
"""


def main() -> int:
    about, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(description=about, epilog=details)
    parser.add_argument(
        "--url", default="http://localhost:8080", help="at which people reach the UI, for links (%(default)s)"
    )
    parser.add_argument(
        "--publish", default="127.0.0.1:8080", metavar="ADDRESS:PORT",
        help="where the UI listens on this machine (%(default)s); put a proxy with TLS before it",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, default=ROOT, help="of docker-compose.yaml (%(default)s)")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if (folder / ".env").exists():
        print(f"{folder / '.env'} exists already; nothing was written", file=sys.stderr)
        return 1
    try:
        write(folder, settings(given.url, given.publish))
    except OSError as error:
        print(f"nothing can be written to {folder}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {folder / '.env'}, and {folder / 'production'} to fill in")
    print(f"sign in at {given.url} as admin; everybody's first password stands in .env, HANDOVER_ACCOUNTS")
    return 0


def settings(url: str, publish: str) -> dict[str, str]:
    """Variables of docker-compose.yaml."""
    people = {name: {"password": secrets.token_urlsafe(16), "roles": roles} for name, roles in ROLES.items()}
    connection = {"conn_type": "http", "host": "apiserver", "port": 8080, "schema": "http", "login": AUTOMATION}
    return {
        "AIRFLOW_UID": str(os.getuid() or IMAGE_USER),
        "AIRFLOW_URL": url,
        "AIRFLOW_PUBLISH": publish,
        "HANDOVER_ACCOUNTS": json.dumps(people),
        "AIRFLOW_CONN_PMS_AIRFLOW": json.dumps(connection | {"password": secrets.token_urlsafe(16)}),
        "FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "API_SECRET_KEY": secrets.token_urlsafe(48),
        "JWT_SECRET": secrets.token_urlsafe(48),
        "HANDOVER_EVIDENCE_KEY": secrets.token_urlsafe(48),
        "POSTGRES_PASSWORD": secrets.token_urlsafe(24),
        "REDIS_PASSWORD": secrets.token_urlsafe(24),
    }


def template() -> str:
    """production/airflow.env: every connection, commented out."""
    lines = [f"#AIRFLOW_CONN_PMS_{name.upper()}='{json.dumps(values)}'\n" for name, values in CONNECTIONS.items()]
    return HEADER + "".join(lines)


def write(folder: Path, variables: dict[str, str]) -> None:
    """Raises OSError. The folder comes first: with .env alone a second try would be refused."""
    production = folder / "production"
    production.mkdir(mode=0o700, exist_ok=True)
    if os.getuid() == 0:
        os.chown(production, IMAGE_USER, 0)
    if not (production / "airflow.env").exists():
        private(production / "airflow.env", template())
    private(folder / ".env", "".join(f"{name}='{value}'\n" for name, value in variables.items()))


def private(path: Path, content: str) -> None:
    """A new file for its owner's eyes only."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)


if __name__ == "__main__":
    sys.exit(main())
