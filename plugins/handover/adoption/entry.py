"""Where clients reach a Service, as far as the cluster tells: by an Ingress, a load balancer, or within. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
CERTIFICATES = (
    "alb.ingress.kubernetes.io/certificate-arn",
    "networking.gke.io/managed-certificates",
    "ingress.gcp.kubernetes.io/pre-shared-cert",
)
"""Annotations that give an Ingress its certificate where the load balancer has it, and not ``spec.tls``."""
HTTPS = 443
_PLAIN = re.compile(r"/?[\w./~-]*")


@dataclass(frozen=True)
class Way:
    """One rule of an Ingress that leads to the Service. ``host``: "" for every; ``path``: without its last slash."""

    host: str
    path: str
    https: bool

    @property
    def names_a_host(self) -> bool:
        return bool(self.host) and "*" not in self.host

    def __str__(self) -> str:
        return f"{self.host or '*'}{self.path}"


def address_of(service: Json, ingresses: Sequence[Json], notes: list[str]) -> str:
    """The first host of an Ingress for this Service, of all its paths before others; else what a load balancer has, or
    the Service within the cluster.
    """
    name, usable = service["metadata"]["name"], []
    for ingress in ingresses:
        ways = list(dict.fromkeys(_ways(ingress, name)))
        usable += [way for way in ways if way.names_a_host]
        hosts = ", ".join(map(str, ways))
        begun = f"Ingress {ingress['metadata']['name']} leads to it ({hosts}): traffic.api_connection "
        if any(way.names_a_host for way in ways):
            notes.append(f"{begun}is {'that address' if len(ways) == 1 else 'one of these addresses'}.")
        else:
            notes.append(f"{begun}has to be an address that clients use, and no single host is named: write one.")
    if not usable:
        return _own_address(service)
    way = min(usable, key=lambda one: bool(one.path))
    if way.path:
        notes.append(
            f"Of {way.host} only what begins with {way.path} is sent to it, so traffic.api_connection ends in that. If "
            f"the Ingress does not take {way.path} off, leave it out there and write it into the plan's paths."
        )
    return f"{'https' if way.https else 'http'}://{way}"


def within(service: str, namespace: str, port: int) -> str:
    """A Service's address for whoever runs in the cluster."""
    return f"http://{service}.{namespace}.svc:{port}"


def bracketed(host: str) -> str:
    """As a URL has it: an address of IPv6 stands in brackets."""
    return f"[{host}]" if ":" in host else host


def _own_address(service: Json) -> str:
    port: Json = next(iter(service["spec"].get("ports") or ()), {"port": 80})
    for one in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        if host := one.get("hostname") or one.get("ip"):
            https = port["port"] == HTTPS or "https" in (port.get("name"), port.get("appProtocol"))
            return f"{'https' if https else 'http'}://{bracketed(host)}:{port['port']}"
    return within(service["metadata"]["name"], service["metadata"]["namespace"], port["port"])


def _ways(ingress: Json, service: str) -> Iterator[Way]:
    spec = ingress["spec"]
    for rule in spec.get("rules") or ():
        host = rule.get("host") or ""
        for path in (rule.get("http") or {}).get("paths") or ():
            if _leads_to(path.get("backend"), service):
                yield Way(host, _beginning(path.get("path") or ""), _is_https(ingress, host))
    if _leads_to(spec.get("defaultBackend"), service):
        yield Way("", "", https=False)


def _leads_to(backend: Json | None, service: str) -> bool:
    return ((backend or {}).get("service") or {}).get("name") == service


def _beginning(path: str) -> str:
    """What a path begins with, up to where some controllers take a pattern: ``/shop`` of ``/shop(/|$)(.*)``."""
    found = _PLAIN.match(path)
    return found[0].rstrip("/") if found else ""


def _is_https(ingress: Json, host: str) -> bool:
    """Whether this host has a certificate; an entry without hosts is for all of them."""
    entries = ingress["spec"].get("tls") or ()
    if any(not one.get("hosts") or any(_covers(given, host) for given in one["hosts"]) for one in entries):
        return True
    return any(key in CERTIFICATES for key in ingress["metadata"].get("annotations") or {})


def _covers(given: str, host: str) -> bool:
    """``*`` stands for one part of a name."""
    return given == host or (given.startswith("*.") and host.partition(".")[2] == given[2:])
