"""Certificates from an authority that nobody trusts by itself, such as an inspecting proxy's."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

CORPORATE_CA = "Corp Proxy CA"
DAY = datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def write_certificate(
    folder: Path, host: str, *, ends_in: datetime.timedelta = DAY
) -> tuple[tuple[Path, Path], Path]:
    """Write a new authority and a certificate for a host.

    Args:
        folder: Where to.
        host: The name it is for.
        ends_in: When it expires, from now; it began ten days ago.

    Returns:
        Certificate and key, and the authority's certificate.
    """
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def build(subject: str, public: ec.EllipticCurvePublicKey, *, is_ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(CORPORATE_CA))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now + (DAY if is_ca else ends_in))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
        )
        if not is_ca:
            names = x509.SubjectAlternativeName([x509.DNSName(host)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(ca_key, hashes.SHA256())

    written = {
        "corporate-ca.pem": build(CORPORATE_CA, ca_key.public_key(), is_ca=True).public_bytes(
            Encoding.PEM
        ),
        "corporate.pem": build(host, key.public_key(), is_ca=False).public_bytes(Encoding.PEM),
        "corporate-key.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    for name, data in written.items():
        (folder / name).write_bytes(data)
    certificate, private = folder / "corporate.pem", folder / "corporate-key.pem"
    return (certificate, private), folder / "corporate-ca.pem"
