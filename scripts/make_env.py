#!/usr/bin/env python3
"""Writes .env and .airflow_passwords.json for docker-compose.yaml, with fresh secrets, readable by their owner alone.

Existing files are left alone: new secrets would lock Airflow out of its own database. Needs Python only.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROLES = {"admin": "admin", **dict.fromkeys(["lead", "backend", "frontend", "dba", "devops", "qa", "cto"], "op")}


def main() -> int:
    env, passwords = ROOT / ".env", ROOT / ".airflow_passwords.json"
    if existing := [path.name for path in (env, passwords) if path.exists()]:
        print(f"{' and '.join(existing)} exist already; nothing was written")
        return 1
    people = {name: secrets.token_urlsafe(16) for name in ROLES}
    settings = {
        "FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "API_SECRET_KEY": secrets.token_urlsafe(48),
        "JWT_SECRET": secrets.token_urlsafe(48),
        "POSTGRES_PASSWORD": secrets.token_urlsafe(24),
        "REDIS_PASSWORD": secrets.token_urlsafe(24),
        "AIRFLOW_USERS": ",".join(f"{name}:{role}" for name, role in ROLES.items()),
        "AIRFLOW_URL": "http://localhost:8080",
    }
    connection = {"conn_type": "http", "host": "apiserver", "port": 8080, "schema": "http", "login": "admin"}
    settings["AIRFLOW_CONN_PMS_AIRFLOW"] = json.dumps(connection | {"password": people["admin"]})
    _write(env, "".join(f"{key}={value}\n" for key, value in settings.items()), 0o600)
    # Read by the airflow user inside the containers, through a secret mount that keeps the host's mode.
    _write(passwords, json.dumps(people), 0o644)
    print("wrote .env and .airflow_passwords.json; sign in at http://localhost:8080 as admin, password in the latter")
    return 0


def _write(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
