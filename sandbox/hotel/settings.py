"""What the service reads from its environment, once, at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

FAULTS = ("none", "start", "smoke", "errors", "slow")
ERRORS_AFTER = 300
"""Requests a pod answers well before a bad release begins to fail: more than any smoke test sends."""
SLOW_SECONDS = 1.5

_PRISMA_ONLY = {"schema", "connection_limit", "pool_timeout", "pgbouncer", "socket_timeout"}


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it and never shows its value."""


def plain_dsn(url: str) -> str:
    """The DSN without the query parameters that only Prisma understands (a PostgreSQL client refuses them)."""
    parts = urlsplit(url)
    kept = [(key, value) for key, value in parse_qsl(parts.query) if key not in _PRISMA_ONLY]
    return urlunsplit(parts._replace(query=urlencode(kept)))


@dataclass(frozen=True)
class Settings:
    """Settings of one pod."""

    database_url: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    admin_token: str = field(default="", repr=False)
    health_check_token: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 8080
    pod: str = "pms"
    version: str = "v0.0.0"
    fault: str = "none"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the environment; raises SettingsError at the first setting that cannot be used."""
        for name in ("DATABASE_URL", "JWT_SECRET"):
            if not env.get(name):
                raise SettingsError(f"{name} is not set")
        port = env.get("PORT", "8080")
        if not port.isdecimal() or int(port) > 65535:
            raise SettingsError("PORT is not a port number")
        fault = env.get("PMS_FAULT") or "none"
        if fault not in FAULTS:
            raise SettingsError(f"PMS_FAULT is none of {', '.join(FAULTS)}")
        return cls(
            database_url=plain_dsn(env["DATABASE_URL"]),
            jwt_secret=env["JWT_SECRET"],
            admin_token=env.get("ADMIN_TOKEN", ""),
            health_check_token=env.get("HEALTH_CHECK_TOKEN", ""),
            host=env.get("POD_IP") or "127.0.0.1",
            port=int(port),
            pod=env.get("POD_NAME") or "pms",
            version=env.get("PMS_VERSION") or "v0.0.0",
            fault=fault,
        )
