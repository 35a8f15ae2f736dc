"""`python -m sandbox.cluster --config FILE`: serve until SIGTERM.

The API answers in plain HTTP on `port`. It also answers in TLS on `tls_port`, because kubectl sends a token only
over TLS; `<data_dir>/kubeconfig` has the address and the certificate for it and suits every client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from sandbox.cluster.api import Api
from sandbox.cluster.certificate import write_kubeconfig
from sandbox.cluster.deployments import Deployments, ReplicaSets
from sandbox.cluster.endpoints import Endpoints
from sandbox.cluster.image import Catalogue
from sandbox.cluster.jobs import Jobs
from sandbox.cluster.kinds import NAMESPACE
from sandbox.cluster.kubelet import Kubelet
from sandbox.cluster.logs import PodLogs
from sandbox.cluster.proxy import ServiceProxy
from sandbox.cluster.registry import Registry
from sandbox.cluster.relay import Relay
from sandbox.cluster.store import Store


@dataclass(frozen=True)
class Config:
    subnet: str
    token: str
    data_dir: Path
    catalogue: Path
    port: int = 6443
    history: int = 4096  # changes a watch can go back

    @classmethod
    def read(cls, path: Path) -> Config:
        raw = json.loads(path.read_text())
        return cls(**{**raw, **{field: Path(raw[field]).absolute() for field in ("data_dir", "catalogue")}})

    @property
    def host(self) -> str:
        return f"{self.subnet}.0.1"

    @property
    def tls_port(self) -> int:
        return self.port + 1


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Api]:
    """A cluster for as long as the block runs; afterwards none of its processes is left."""
    # Versions start with the time, so that they never repeat those of an earlier run.
    registry = Registry(Store(config.history, first_version=int(time.time())), config.subnet)
    for leftover in ("logs", "pods"):  # of a run before this one, whose objects are gone
        shutil.rmtree(config.data_dir / leftover, ignore_errors=True)
    logs = PodLogs(config.data_dir / "logs")
    kubelet = Kubelet(registry, Catalogue(config.catalogue), logs, config.data_dir / "pods")
    proxy = ServiceProxy(registry)
    relay = Relay(registry, proxy)
    for controller in (ReplicaSets, Deployments, Endpoints, Jobs):
        controller(registry)
    for name in ("default", "kube-system"):
        registry.create(NAMESPACE, "", {"metadata": {"name": name}})
    try:
        yield Api(registry, config.token, logs, relay)
    finally:
        proxy.close()
        await relay.close()
        await kubelet.close()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: two servers share one loop and one way to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(api: Api, **tls: Any) -> _Server:
    """One listener; with a key and a certificate it speaks TLS. The API itself logs what goes wrong."""
    settings = uvicorn.Config(
        api, lifespan="off", ws="none", access_log=False, log_level="critical", timeout_graceful_shutdown=1,
        timeout_keep_alive=75, **tls,
    )  # fmt: skip
    return _Server(settings)


def _audit_to(path: Path) -> None:
    audit = logging.getLogger("sandbox.cluster.audit")
    audit.addHandler(logging.FileHandler(path, "w"))
    audit.setLevel(logging.INFO)
    audit.propagate = False


async def serve(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Before anything is touched: a second cluster of the same address must leave the first one's files alone.
    plain, secure = (socket.create_server((config.host, port), backlog=1024) for port in (config.port, config.tls_port))
    config.data_dir.mkdir(parents=True, exist_ok=True)
    key, certificate = write_kubeconfig(config.data_dir, config.host, config.tls_port, config.token)
    async with running(config) as api:
        servers = {_server(api): plain, _server(api, ssl_keyfile=key, ssl_certfile=certificate): secure}
        _audit_to(config.data_dir / "audit.log")  # after uvicorn, which closes the handlers that it finds
        serving = [asyncio.create_task(server.serve([listener])) for server, listener in servers.items()]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([*serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.cluster", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    config = Config.read(parser.parse_args().config)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        import uvloop
    except ImportError:  # slower, and that is all
        asyncio.run(serve(config))
    else:
        uvloop.run(serve(config))


if __name__ == "__main__":
    main()
