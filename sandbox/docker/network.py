"""A network for servers of this machine that containers can reach: they cannot reach its loopback, 127.0.0.0/8."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.kubernetes.addresses import ROUTE_PROTOCOL
from sandbox.kubernetes.network import Claim, disconnect
from sandbox.settings import SandboxError


@contextmanager
def reachable() -> Iterator[str]:
    """The first two numbers of addresses that can be bound while the block lasts, for `Sandbox(network=...)`."""
    claim = Claim.take()
    try:
        addresses = claim.addresses
        # Linux then takes every address of it for its own, without one being added to an interface.
        route = ["ip", "route", "add", "local", addresses.host_services, "dev", "lo", "protocol", ROUTE_PROTOCOL]
        done = subprocess.run(route, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SandboxError(f"`{' '.join(route)}` failed: {done.stderr.strip()}")
        yield addresses.host_prefix.rpartition(".")[0]
    finally:
        disconnect(claim.addresses)
        claim.close()
