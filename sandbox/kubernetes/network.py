"""What a cluster adds to the machine's own network: a link to its node, and routes. Both are ours to remove."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from typing import Any

from sandbox.kubernetes import cgroups
from sandbox.kubernetes.addresses import NUMBERS, ROUTE_PROTOCOL, Addresses, strangers
from sandbox.settings import SandboxError


class Claim:
    """A cluster number of one's own, for as long as any process holds the descriptor open.

    It is a name in the abstract socket namespace: for all users of the same network, without a file.
    """

    def __init__(self, number: int) -> None:
        """Raises OSError when another holds it."""
        self.addresses = Addresses(number)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(f"\0pms-sandbox-kubernetes-{number}")
        except OSError:
            self._socket.close()
            raise

    @classmethod
    def take(cls) -> Claim:
        """The first free number; what a dead cluster of that number has left on the machine is removed."""
        for number in NUMBERS:
            with contextlib.suppress(OSError):
                claim = cls(number)
                if strangers(_routes(), claim.addresses):
                    claim.close()
                    continue
                disconnect(claim.addresses)
                cgroups.remove(claim.addresses.cgroup)
                return claim
        raise SandboxError(
            f"no network 10.k.0.0/16 with k from {NUMBERS[0]} to {NUMBERS[-1]} is free: other clusters, or routes of "
            "this machine (`ip route show table all`), take all of them"
        )

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


def connect(addresses: Addresses, init_pid: int) -> None:
    """Link the machine to the node's network namespace, and route everything of the cluster's through it."""
    link = addresses.link
    _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(init_pid))
    _ip("address", "add", f"{addresses.host}/30", "dev", link)
    _ip("link", "set", link, "up")
    for network in (addresses.services, addresses.pods):
        _ip("route", "add", network, "via", addresses.node, "dev", link, "protocol", ROUTE_PROTOCOL)
    # Any address in it can then be bound, without being added to an interface first.
    _ip("route", "add", "local", addresses.host_services, "dev", "lo", "protocol", ROUTE_PROTOCOL)


def disconnect(addresses: Addresses) -> None:
    """Remove what `connect` has made, or half of it; `remains` tells whether that worked.

    The kernel takes the link away by itself, and its routes with it, a moment after the node's last process has ended:
    what is there now may be gone before it can be removed.
    """
    if addresses.link in _links():
        _run("link", "delete", addresses.link)
    for route in _own_routes(addresses):
        _run("route", "delete", route.get("type", "unicast"), route["dst"], "table", route.get("table", "main"))


def remains(addresses: Addresses) -> list[str]:
    """What of the cluster is still in the machine's network."""
    links = [f"link {addresses.link}"] if addresses.link in _links() else []
    return links + [f"route to {route['dst']}" for route in _own_routes(addresses)]


def _own_routes(addresses: Addresses) -> list[dict[str, Any]]:
    ours = {addresses.services, addresses.pods, addresses.host_services}
    return [route for route in _routes() if route["dst"] in ours and route.get("protocol") == ROUTE_PROTOCOL]


def _routes() -> list[dict[str, Any]]:
    return _json("-4", "route", "show", "table", "all")


def _links() -> set[str]:
    return {link["ifname"] for link in _json("link", "show")}


def _json(*argv: str) -> Any:
    output = subprocess.run(["ip", "-json", *argv], check=True, capture_output=True, text=True).stdout
    return json.loads(output or "[]")


def _ip(*argv: str) -> None:
    done = _run(*argv)
    if done.returncode:
        raise SandboxError(f"`ip {' '.join(argv)}` failed: {done.stderr.strip()}")


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *argv], check=False, capture_output=True, text=True)
