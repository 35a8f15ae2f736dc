"""Where clients meet the service from outside: a name server, and TLS with a certificate of an authority of our own.

`python -m sandbox.services.edge --dns HOST:PORT --tls HOST:PORT --folder DIR`. Each of `NAMES` has the address
of the TLS server.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.processes import Process
from sandbox.services import ready
from sandbox.services.component import Component, Context
from sandbox.settings import Settings

DOMAIN = "pms.example.com"
NAMES = (f"api.{DOMAIN}", f"api-staging.{DOMAIN}")
DAYS = 90
TTL_SECONDS = 60
Address = tuple[str, int]


def certify(folder: Path, names: tuple[str, ...] = NAMES, days: float = DAYS) -> Path:
    """Makes an authority and a certificate for the names: ca.pem, edge.pem (with its key). Gives ca.pem."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox authority")])
    until = datetime.now(UTC) + timedelta(days=days)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(authority).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(until - timedelta(days=days + 1))
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        return made.not_valid_after(until).add_extension(own, critical=False)

    usage = x509.KeyUsage(False, False, False, False, False, key_cert_sign=True, crl_sign=True, encipher_only=False,
                          decipher_only=False)  # fmt: skip
    ca = builder(authority, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), critical=True)
    ca_certificate = ca.add_extension(usage, critical=True).sign(ca_key, hashes.SHA256())
    leaf = builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), key.public_key())
    leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    pem = leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.pem").write_bytes(ca_certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "edge.pem").touch(0o600)
    (folder / "edge.pem").write_bytes(pem + private)
    return folder / "ca.pem"


class NameServer(asyncio.DatagramProtocol):
    """Answers A records of the domain, and that every other name does not exist."""

    def __init__(self, address: str) -> None:
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, sender: Address) -> None:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        name = query.question[0].name
        if name.to_text(omit_final_dot=True) in NAMES:
            answer.answer.append(dns.rrset.from_text(name, TTL_SECONDS, "IN", "A", self._address))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), sender)


def tls_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "edge.pem")
    return context


async def serve(dns_at: Address, tls_at: Address, folder: Path) -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: NameServer(tls_at[0]), local_addr=dns_at)
    server = await asyncio.start_server(close, *tls_at, ssl=tls_context(folder))
    await server.serve_forever()


def folder(settings: Settings) -> Path:
    return settings.folder("edge")


class Edge(Component):
    """Name server and TLS on their addresses."""

    name = "edge"

    def start(self, context: Context) -> None:
        settings = context.settings
        certify(folder(settings))
        places = [f"{settings.host(server)}:{settings.port(server)}" for server in ("dns", "edge")]
        argv = [
            sys.executable, "-m", "sandbox.services.edge", "--dns", places[0], "--tls", places[1],
            "--folder", str(folder(settings)),
        ]  # fmt: skip
        process = context.own(Process(self.name, argv, settings.log(self.name)))
        ready.until_listening(settings.host("edge"), settings.port("edge"), process)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.services.edge", description=__doc__)
    parser.add_argument("--dns", required=True, type=_address)
    parser.add_argument("--tls", required=True, type=_address)
    parser.add_argument("--folder", required=True, type=Path)
    given = parser.parse_args()
    asyncio.run(serve(given.dns, given.tls, given.folder))


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()
