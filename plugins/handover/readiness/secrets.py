"""What lies in Secrets Manager. No value of it ever leaves this module: not in evidence, not in a log, not in an error.

A secret is a JSON object of names and values, as its console makes it.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any, Literal

from pydantic import Field

from handover.models.evidence import Evidence, Measurement, combined, failed, passed, unknown
from handover.models.json_text import decoded
from handover.plan.parts import ConnectionId, Items
from handover.readiness.aws import client
from handover.readiness.check import CheckKind, NoAnswer, Scope

PLACEHOLDERS = ("changeme", "change-me", "placeholder", "todo", "example", "dummy", "xxx", "<", "your-")
CONNECT_SECONDS = 5


class SecretCheck(CheckKind):
    connection: ConnectionId
    secret: str

    def values(self, name: str = "") -> dict[str, str]:
        """The names and values of a secret, masked in every log from now on. Raises `NoAnswer` without any value."""
        name = name or self.secret
        found = client(self.connection, "secretsmanager").get_secret_value(SecretId=name).get("SecretString")
        try:
            values = decoded(found or "")
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise NoAnswer(f"the secret {name} is not a JSON object")
        return {str(key): _masked(value) for key, value in values.items()}


def _masked(value: Any) -> str:
    from airflow.sdk.log import mask_secret

    text = value if isinstance(value, str) else ""
    if text:
        mask_secret(text)
    return text


class SecretsPresent(SecretCheck):
    """Every one of the keys has a value that looks like one."""

    kind: Literal["secrets_present"]
    keys: Items

    def look(self, scope: Scope) -> Evidence:
        values = self.values()
        missing = [key for key in self.keys if not values.get(key, "").strip()]
        filler = [key for key in self.keys if key not in missing and is_placeholder(values[key])]
        wrong = [f"{key} is missing" for key in missing] + [f"{key} is a placeholder" for key in filler]
        if wrong:
            return failed(self.kind, f"{self.secret}: {'; '.join(wrong)}")
        return passed(self.kind, f"{self.secret} has {', '.join(self.keys)}")


def is_placeholder(value: str) -> bool:
    return value.strip().lower().startswith(PLACEHOLDERS)


class DatabaseUrls(SecretCheck):
    """Every one of the keys is the address of a database that takes its user."""

    kind: Literal["database_urls"]
    keys: Items

    def look(self, scope: Scope) -> Evidence:
        values = self.values()
        return combined(self.kind, [connects(key, values.get(key, "")) for key in self.keys])


def connects(key: str, url: str) -> Evidence:
    """Errors are named by their class only: psycopg quotes what it cannot read."""
    import psycopg

    from handover.adapters.postgres import TLS, secured

    if not url.strip():
        return failed(key, "is missing")
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return failed(key, "is not the address of a database")
    if not (parts.get("host") and parts.get("dbname")):
        return failed(key, "names no host or no database")
    try:
        given = {key: str(value) for key, value in parts.items() if key in TLS}
        tls: dict[str, Any] = secured(str(parts["host"]), given)
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS, autocommit=True, **tls) as session:
            session.execute("SELECT 1")
    except psycopg.Error as error:
        if "authentication failed" in str(error) or "does not exist" in str(error):
            return failed(key, "the server refuses this user or has no such database")
        return unknown(key, f"cannot be reached from here ({type(error).__name__})")
    return passed(key, "connects")


class JwtSecret(SecretCheck):
    """The signing secret is long, and staging has another one."""

    kind: Literal["jwt_secret"]
    key: str = "JWT_SECRET"
    longer_than: Annotated[int, Field(ge=1)]
    staging_secret: str

    def look(self, scope: Scope) -> Evidence:
        value, other = self.values().get(self.key, ""), self.values(self.staging_secret).get(self.key, "")
        measured = Measurement(what="jwt_secret_length", value=len(value), source="Secrets Manager")
        wrong = [] if len(value) > self.longer_than else [f"has {len(value)} characters, not over {self.longer_than}"]
        if not other:
            return unknown(self.kind, f"{self.staging_secret} has no {self.key} to compare with", measured)
        if hmac.compare_digest(value.encode(), other.encode()):
            wrong.append(f"is the same as in {self.staging_secret}")
        if wrong:
            return failed(self.kind, f"{self.key} {' and '.join(wrong)}", measured)
        return passed(self.kind, f"{self.key} has {len(value)} characters and is not staging's", measured)
