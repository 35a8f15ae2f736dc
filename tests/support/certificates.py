"""Certificates for tests that need TLS on both sides: an authority, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """Files of PEM in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.pem = folder / f"{name}.crt"
        self.pem.write_bytes(self._signed(name, self._key, x509.BasicConstraints(ca=True, path_length=None)))

    def sign(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of this common name, for the loopback address."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(self._signed(name, key, x509.BasicConstraints(ca=False, path_length=None)))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, private

    def server(self, name: str = "server", *, clients: Authority | None = None) -> ssl.SSLContext:
        """For a server with a certificate of this name; ``clients``: whose clients alone it takes."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.sign(name))
        context.load_verify_locations((clients or self).pem)
        context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_OPTIONAL
        return context

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, constraints: x509.BasicConstraints) -> bytes:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self._name)])
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        today = datetime.datetime.now(datetime.UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=365))
            .add_extension(names, critical=False)
            .add_extension(constraints, critical=True)
        )
        return built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
