#!/usr/bin/env python3
"""Writes .env for docker-compose.yaml: fresh secrets and a user for each role, readable by its owner alone.

An existing file is left alone: new secrets would lock Airflow out of its own database. Needs Python only.
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
    env = ROOT / ".env"
    if env.exists():
        print(".env exists already; nothing was written")
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
    settings["AIRFLOW_PASSWORDS"] = json.dumps(people)
    with os.fdopen(os.open(env, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{key}={value}\n" for key, value in settings.items())
    print("wrote .env; sign in at http://localhost:8080 as admin, with the password in AIRFLOW_PASSWORDS")
    return 0


if __name__ == "__main__":
    sys.exit(main())
