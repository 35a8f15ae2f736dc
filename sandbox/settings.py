"""Where one sandbox lives: its folder, its slice of loopback and its secrets."""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.kubernetes.description import Cluster

REPOSITORY = Path(__file__).resolve().parents[1]
ROLES = ("lead", "backend", "frontend", "dba", "devops", "qa", "cto")
"""People who answer questions; each is an Airflow user of the same name."""

TEST_EMAIL = "test@example.com"
"""The guest that smoke tests log in as."""

# Ports that programs rarely take on all interfaces, for that would take them on every loopback address as well.
_SERVERS = {
    "kubernetes": ("0.1", 16443),
    "primary": ("0.2", 15432),
    "replica": ("0.3", 15432),
    "metadata": ("0.4", 15432),
    "airflow": ("0.5", 18080),
    "recorder": ("0.6", 18081),
    "registry": ("0.7", 15000),
    "smtp": ("0.8", 12525),
    "aws": ("0.9", 15001),
    "edge": ("0.10", 18443),
    "dns": ("0.11", 15353),
}
_SERVICES = {"pms-api": "2.1", "pms-preview": "2.2", "pms-staging": "2.3"}
SERVICE_PORT = 8080
"""Of the hotel's pods and Services, as the plan has it."""
NODE_PORTS = {"pms-api": 30080, "pms-preview": 30081, "pms-staging": 30082}
"""Where the Services of a real cluster answer outside of it."""


class SandboxError(Exception):
    """The sandbox cannot do what was asked; the text says why and what to do."""


def _token() -> str:
    return secrets.token_hex(24)


def _identity() -> str:
    import pyrage

    return str(pyrage.x25519.Identity.generate())


@dataclass(frozen=True)
class Secrets:
    """Made for one run and gone with it."""

    postgres: str = field(default_factory=_token)
    """Of the superuser of all servers."""
    replicator: str = field(default_factory=_token)
    pms: str = field(default_factory=_token)
    restore: str = field(default_factory=_token)
    airflow_database: str = field(default_factory=_token)
    record: str = field(default_factory=_token)
    """Of the role that adds to the ledger and reads it."""
    record_owner: str = field(default_factory=_token)
    cluster: str = field(default_factory=_token)
    registry: str = field(default_factory=_token)
    admin_token: str = field(default_factory=_token)
    health_check_token: str = field(default_factory=_token)
    test_password: str = field(default_factory=_token)
    admin_password: str = field(default_factory=_token)
    jwt: str = field(default_factory=lambda: secrets.token_hex(48))
    """More than 64 characters, as the plan demands."""
    staging_jwt: str = field(default_factory=lambda: secrets.token_hex(48))
    service: str = field(default_factory=_token)
    """What the outside services (Slack, Jira ...) would be given."""
    evidence: str = field(default_factory=lambda: secrets.token_hex(32))
    """With which steps seal what they leave."""
    backup_key: str = field(default_factory=_identity)
    """Which backups are encrypted and opened with."""
    airflow_user: str = field(default_factory=_token)
    """What the passwords of Airflow's users are made from; none of them tells another."""

    def airflow_password(self, user: str) -> str:
        return hmac.new(self.airflow_user.encode(), user.encode(), "sha256").hexdigest()[:32]


@dataclass(frozen=True)
class Settings:
    """One sandbox. Everything it writes is below `home`, everything it serves below `subnet` (``127.k``, or a
    ``10.k`` that is local to this machine, where containers or the pods of a real cluster have to reach it).
    """

    home: Path
    subnet: str
    small: bool = False
    """Little hotel data: starts faster, and its backup fails the plan's size rule unless an overlay lowers it."""
    overlay: Path | None = None
    """YAML laid over the plan file, to compress time."""
    plans: Path | None = None
    """A folder of plan files to use instead of the repository's."""
    cluster: Cluster | None = None
    """The real Kubernetes that takes the stand-in's place."""
    secrets: Secrets = field(default_factory=Secrets, repr=False)

    def host(self, server: str) -> str:
        return f"{self.subnet}.{_SERVERS[server][0]}"

    def port(self, server: str) -> int:
        return _SERVERS[server][1]

    def url(self, server: str) -> str:
        return f"http://{self.host(server)}:{self.port(server)}"

    def service_address(self, service: str) -> tuple[str, int]:
        """Host and port at which one of the hotel's Services answers on this machine."""
        if self.cluster:
            return self.cluster.node, NODE_PORTS[service]
        return f"{self.subnet}.{_SERVICES[service]}", SERVICE_PORT

    def service_url(self, service: str) -> str:
        host, port = self.service_address(service)
        return f"http://{host}:{port}"

    def dsn(self, server: str, database: str, user: str, password: str) -> str:
        """The sandbox's servers know no TLS, which a client off this host would ask for."""
        return f"postgresql://{user}:{password}@{self.host(server)}:{self.port(server)}/{database}?sslmode=disable"

    @property
    def audit_log(self) -> Path:
        """What the stand-in cluster was asked, as Kubernetes' audit events."""
        return self.home / "cluster" / "audit.log"

    def folder(self, *parts: str) -> Path:
        """A folder below home, made when missing and closed to others."""
        path = self.home.joinpath(*parts)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def log(self, name: str) -> Path:
        return self.folder("logs") / f"{name}.log"


class FileLock:
    """A file held locked, and gone when released; the kernel releases it for us if we die."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def take(cls, path: Path) -> FileLock | None:
        """None when another has it.

        A file that its owner removed between our open and our lock is no lock: its name must still mean this file.
        """
        try:
            file = path.open("a")
        except OSError:  # another user's
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return cls(file)
        except OSError:
            pass
        file.close()
        return None

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._file.name)
        self._file.close()


class Subnet:
    """A 127.k.0.0/16 of one's own until it is closed; Linux has all of 127.0.0.0/8 on loopback.

    The claim is a bound name in the abstract socket namespace: it holds exactly as far as loopback does, for all users,
    leaves no file, and ends with its process. A network that is given is claimed in the same way, as ``10.k``.
    """

    def __init__(self, network: str | None = None) -> None:
        refused = "all are taken by other sandboxes"
        for prefix in [network] if network else [f"127.{k}" for k in range(10, 251)]:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0pms-sandbox-{prefix}")
            except OSError:
                claim.close()
                continue
            reason = _refused_port(prefix)
            if not reason:
                self._claim, self.prefix = claim, prefix
                return
            refused = reason
            claim.close()
        if network:
            raise SandboxError(f"the network {network} cannot be used by a sandbox: {refused}")
        raise SandboxError(
            f"no free 127.k.0.0/16 on this machine: {refused}. A program that listens on all interfaces (0.0.0.0) "
            "takes its port on every one of them: stop it, or let it listen on 127.0.0.1"
        )

    def close(self) -> None:
        self._claim.close()


def _refused_port(prefix: str) -> str:
    """Why a port that is needed cannot be had, or nothing."""
    needed = [*_SERVERS.values(), ("1.1", SERVICE_PORT), *((host, SERVICE_PORT) for host in _SERVICES.values())]
    for host, port in needed:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((f"{prefix}.{host}", port))
                probe.listen()
            except OSError as error:
                return f"{prefix}.{host}:{port} {error.strerror}"
    return ""
