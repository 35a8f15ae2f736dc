"""DNS records and TLS certificates, as clients meet them."""

from __future__ import annotations

import datetime
import socket
import ssl
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from handover.models.evidence import Evidence, Measurement, combined, failed, passed, unknown
from handover.plan.parts import ConnectionId, Items, Seconds
from handover.readiness.check import TIMEOUT_SECONDS, CheckKind, NoAnswer, Scope

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

DAY = 86400.0


class DnsRecords(CheckKind):
    """Every name resolves, and lives short enough in caches that a switch takes effect.

    ``connection``: host and port of the name server to ask.
    """

    kind: Literal["dns_records"]
    connection: ConnectionId
    names: Items
    max_ttl_seconds: Seconds

    def look(self, scope: Scope) -> Evidence:
        return combined(self.kind, [self._one(name) for name in self.names])

    def _one(self, name: str) -> Evidence:
        import dns.exception
        import dns.rdatatype
        import dns.resolver
        from airflow.sdk import BaseHook

        where = BaseHook.get_connection(self.connection)
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port, resolver.lifetime = [where.host or ""], where.port or 53, TIMEOUT_SECONDS
        try:
            answer = resolver.resolve(name, "A")
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return failed(name, "there is no such record")
        except dns.exception.DNSException as error:
            raise NoAnswer(f"{self.connection}: {name}: {type(error).__name__}") from None
        kept = max(answer.response.answer, key=lambda record: record.ttl)  # the aliases on the way, too
        measured = Measurement(what=f"ttl {name}", value=kept.ttl, unit="s", source="DNS")
        verdict = passed if kept.ttl <= self.max_ttl_seconds else failed
        alias = f" (the alias {kept.name})" if kept.rdtype == dns.rdatatype.CNAME else ""
        found = ", ".join(sorted(str(one) for one in answer))
        return verdict(name, f"{found}, kept {kept.ttl} s{alias}, at most {self.max_ttl_seconds:g} wanted", measured)


class TlsCertificates(CheckKind):
    """Every name has a certificate that clients accept, valid for long enough.

    ``connection``: where the names are served; its extra may name a ``ca_file`` for an authority of one's own.
    """

    kind: Literal["tls_certificates"]
    connection: ConnectionId
    names: Items
    min_days: Annotated[float, Field(gt=0)]

    def look(self, scope: Scope) -> Evidence:
        from airflow.sdk import BaseHook

        where = BaseHook.get_connection(self.connection)
        address, ca_file = (where.host or "", where.port or 443), where.extra_dejson.get("ca_file")
        parts = [certified(name, address, ca_file, self.min_days, scope.now) for name in self.names]
        return combined(self.kind, parts)


def certified(name: str, address: tuple[str, int], ca_file: str | None, min_days: float, now: float) -> Evidence:
    """The verdict of one handshake. A server that cannot be reached is UNKNOWN."""
    try:
        certificate = presented(name, address, ca_file)
    except ssl.SSLCertVerificationError as error:
        return failed(name, f"clients refuse the certificate: {error.verify_message}")
    except OSError as error:
        return unknown(name, f"{address[0]}:{address[1]} does not answer: {type(error).__name__}")
    days = (certificate.not_valid_after_utc - datetime.datetime.fromtimestamp(now, datetime.UTC)).total_seconds() / DAY
    measured = Measurement(what=f"certificate_days {name}", value=round(days, 1), unit="d", source="TLS")
    verdict = passed if days >= min_days else failed
    return verdict(name, f"valid for {days:.0f} days, at least {min_days:g} wanted", measured)


def presented(name: str, address: tuple[str, int], ca_file: str | None) -> Certificate:
    """The certificate of a name after a handshake that checked chain, name and dates."""
    from cryptography.x509 import load_der_x509_certificate

    context = ssl.create_default_context(cafile=ca_file)
    with (
        socket.create_connection(address, TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
