"""A certificate authority of a company, as an inspecting proxy has one."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs a certificate for whatever name it is asked for.

    Its own has no key usage, as many companies' authorities have none.

    Args:
        name: Common name of the authority.
        folder: Where its files are written.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(name, self._key, names=None)
        self.path = folder / "company-ca.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(
        self, *names: str, ends_in: datetime.timedelta = datetime.timedelta(days=2)
    ) -> ssl.SSLContext:
        """Make a server's context with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(names[0], key, names=names, ends_in=ends_in)
        file = self._folder / f"{names[0]}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _certificate(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        names: tuple[str, ...] | None,
        ends_in: datetime.timedelta = datetime.timedelta(days=2),
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        public, own = key.public_key(), self._key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + ends_in)
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        )
        if names is not None:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())
