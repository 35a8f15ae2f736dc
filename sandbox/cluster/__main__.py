"""`python -m sandbox.cluster --config FILE`: serve until SIGTERM.

The API answers in plain HTTP on `port`. It also answers in TLS on `tls_port`, because kubectl sends a token only
over TLS; `<data_dir>/kubeconfig` has the address and the certificate for it and suits every client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from sandbox.cluster.api import Api
from sandbox.cluster.certificate import write_kubeconfig
from sandbox.cluster.cluster import Config, running


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: two servers share one loop and one way to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(api: Api, config: Config, port: int, key: Path | None = None, certificate: Path | None = None) -> _Server:
    """One listener; with a key and a certificate it speaks TLS. The API itself logs what goes wrong."""
    settings = uvicorn.Config(
        api,
        config.host,
        port,
        lifespan="off",
        access_log=False,
        log_level="critical",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
        ssl_keyfile=key,
        ssl_certfile=certificate,
    )
    return _Server(settings)


async def serve(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Before anything is touched: a second cluster of the same address must leave the first one's files alone.
    listeners = [socket.create_server((config.host, port), backlog=1024) for port in (config.tls_port, config.port)]
    config.data_dir.mkdir(parents=True, exist_ok=True)
    key, certificate = write_kubeconfig(config)
    async with running(config) as api:
        servers = [_server(api, config, config.tls_port, key, certificate), _server(api, config, config.port)]
        serving = [
            asyncio.create_task(server.serve([listener])) for server, listener in zip(servers, listeners, strict=True)
        ]
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
