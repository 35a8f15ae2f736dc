"""The addresses of one cluster: a 10.k.0.0/16 of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NUMBERS = range(200, 251)
"""What k may be."""
ROUTE_PROTOCOL = "177"
"""Marks the routes we add to the machine, so that those of a cluster that died can be told from anybody else's."""


@dataclass(frozen=True)
class Addresses:
    """Cluster number k. Networks are written as ``address/bits``."""

    number: int

    @property
    def network(self) -> str:
        return f"10.{self.number}.0.0/16"

    @property
    def host_prefix(self) -> str:
        return f"10.{self.number}.0"

    @property
    def host_services(self) -> str:
        """What servers on the machine bind, for pods to reach them."""
        return f"10.{self.number}.0.0/18"

    @property
    def host(self) -> str:
        """The machine's end of the link to the node."""
        return f"10.{self.number}.64.1"

    @property
    def node(self) -> str:
        return f"10.{self.number}.64.2"

    @property
    def services(self) -> str:
        return f"10.{self.number}.128.0/20"

    @property
    def api_service(self) -> str:
        """The ClusterIP at which pods find the API: Kubernetes takes the first."""
        return f"10.{self.number}.128.1"

    @property
    def pods(self) -> str:
        return f"10.{self.number}.192.0/18"

    @property
    def api(self) -> str:
        return f"https://{self.node}:6443"

    @property
    def registry(self) -> str:
        return f"http://{self.node}:5000"

    @property
    def link(self) -> str:
        """The machine's network interface to the node."""
        return f"pms{self.number}"

    @property
    def cgroup(self) -> str:
        return f"pms-{self.number}"


def strangers(routes: Iterable[Mapping[str, Any]], addresses: Addresses) -> list[str]:
    """Networks within or around ours that somebody else has a route to (``ip -json route show table all``)."""
    ours = ipaddress.ip_network(addresses.network)
    found = []
    for route in routes:
        if route["dst"] != "default" and route.get("protocol") != ROUTE_PROTOCOL:
            network = ipaddress.ip_network(route["dst"], strict=False)
            # A link's own routes bear the kernel's mark, but go with the link.
            if network.version == 4 and network.overlaps(ours) and route.get("dev") != addresses.link:
                found.append(str(network))
    return found
