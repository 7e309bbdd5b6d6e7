"""A certificate authority of this machine's own, for a relay that is nobody's production.

It lives in the state directory:

    ca.pem       what clients trust; public
    ca-key.pem   the authority's key, 0600
    server.pem   the relay's certificate and its key in one file, 0600: replaced as one

`cryptography` is imported only when something must be signed, which is once in a year.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import secrets
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hybridge.transport.private_files import (
    PUBLIC_FILE,
    UnusableFile,
    locked,
    make_private_directory,
    read_private,
    write_atomically,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

CA_DAYS = 3_650
"""How long the authority is good for."""

SERVER_DAYS = 397
"""How long a server certificate is good for: what browsers accept at most."""

RENEWAL_DAYS = 30
"""With fewer days left, a new certificate is made."""

BACKDATED_DAYS = 1
"""How far certificates reach back, for clocks that are wrong by hours."""

_DAY_SECONDS = 86_400
_NEXT_STEP = "restore it from a backup; or delete ca.pem and ca-key.pem beside it, \
and give the new ca.pem to all clients"


class DevelopmentCa:
    """Signs the relay's certificate. Made by `load_or_create`."""

    def __init__(self, state_dir: Path, pem: str) -> None:
        self._state_dir = state_dir
        self.pem = pem
        """The authority's certificate, which clients must trust."""

    @property
    def path(self) -> Path:
        """Where the authority's certificate stands."""
        return self._state_dir / "ca.pem"

    @classmethod
    def load_or_create(cls, state_dir: Path) -> Self:
        """Give the authority of a state directory, which is made too where it is missing.

        A new authority is made when there is none, or when its time is nearly over.

        Raises:
            UnusableFile: A file is corrupt, readable by others where it holds a key, or cannot be
                written.
        """
        make_private_directory(state_dir)
        with locked(state_dir):
            pem = _load_ca(state_dir)
            if pem is None:
                return cls(state_dir, _create_ca(state_dir))
            _check_ca_key(state_dir)
            return cls(state_dir, pem)

    def certificate_for(self, names: Sequence[str]) -> tuple[Path, Path]:
        """Give a certificate and key for a TLS server; kept while names and time allow.

        Args:
            names: Host names, ``*.`` wildcards and IP addresses that clients connect to.

        Returns:
            The certificate's file and the key's: at present one file holds both.

        Raises:
            UnusableFile: As `load_or_create`.
        """
        wanted = sorted({name.lower() for name in names})
        path = self._state_dir / "server.pem"
        with locked(self._state_dir):
            if not self._is_good(path, wanted):
                write_atomically(path, self._issue(wanted))
        return path, path

    def _is_good(self, path: Path, names: list[str]) -> bool:
        data = read_private(path)
        if data is None:
            return False
        try:
            about = json.loads(data.partition(b"\n")[0])
            is_ours = about["ca"] == self._fingerprint and about["names"] == names
            is_fresh = about["not_after"] - time.time() > RENEWAL_DAYS * _DAY_SECONDS
            # A cut or mixed-up file is not found until OpenSSL reads it.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        except (ValueError, KeyError, TypeError, OSError):
            return False  # Made anew: nothing but this file depends on it.
        return bool(is_ours and is_fresh)

    @property
    def _fingerprint(self) -> str:
        return hashlib.sha256(self.pem.encode()).hexdigest()

    def _issue(self, names: list[str]) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID

        ca_key = _load_ca_key(self._state_dir)
        try:
            ca = x509.load_pem_x509_certificate(self.pem.encode())
        except ValueError as error:
            raise UnusableFile(self.path, "is not a certificate", hint=_NEXT_STEP) from error
        if ca_key is None:
            raise UnusableFile(
                self._state_dir / "ca-key.pem", "the authority's key is missing", hint=_NEXT_STEP
            )
        if ca.public_key() != ca_key.public_key():
            raise UnusableFile(
                self._state_dir / "ca-key.pem", "is not the key of ca.pem", hint=_NEXT_STEP
            )
        key = ec.generate_private_key(ec.SECP256R1())
        not_before, not_after = _validity(SERVER_DAYS)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0] if len(names[0]) <= 64 else "Hybridge relay"))
            .issuer_name(ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(min(not_after, ca.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False
            )
            .sign(ca_key, hashes.SHA256())
        )
        about = {
            "made_by": "hybridge-relay",
            "names": names,
            "not_after": int(certificate.not_valid_after_utc.timestamp()),
            "ca": self._fingerprint,
        }
        return json.dumps(about).encode() + b"\n" + _pem(certificate) + _key_pem(key)


def _load_ca(state_dir: Path) -> str | None:
    path = state_dir / "ca.pem"
    try:
        pem = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise UnusableFile(path, "is not a certificate", hint=_NEXT_STEP) from error
    except OSError as error:
        raise UnusableFile(path, f"cannot be read: {error.strerror}", hint=_NEXT_STEP) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem)
        not_after = str(context.get_ca_certs()[0]["notAfter"])
    except (ssl.SSLError, ValueError, LookupError) as error:
        raise UnusableFile(path, "is not a certificate", hint=_NEXT_STEP) from error
    is_fresh = ssl.cert_time_to_seconds(not_after) - time.time() > RENEWAL_DAYS * _DAY_SECONDS
    return pem if is_fresh else None


def _check_ca_key(state_dir: Path) -> None:
    """Look at the key though nothing is to be signed: in a year it would be too late.

    Others may be reading it, or it is damaged. OpenSSL finds that, and costs no import.
    """
    path = state_dir / "ca-key.pem"
    if read_private(path) is None:
        return
    try:
        # A password, because OpenSSL would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            state_dir / "ca.pem", path, password=""
        )
    except ssl.SSLError as error:
        is_another = error.reason == "KEY_VALUES_MISMATCH"
        problem = "is not the key of ca.pem" if is_another else "is not a private key"
        raise UnusableFile(path, problem, hint=_NEXT_STEP) from error
    except OSError as error:
        raise UnusableFile(path, f"cannot be read: {error.strerror}", hint=_NEXT_STEP) from error


def _load_ca_key(state_dir: Path) -> ec.EllipticCurvePrivateKey | None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = state_dir / "ca-key.pem"
    data = read_private(path)
    if data is None:
        return None
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        # Not its text: that might show a part of the key.
        raise UnusableFile(path, "is not a private key", hint=_NEXT_STEP) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UnusableFile(path, "is not an elliptic curve key", hint=_NEXT_STEP)
    return key


def _create_ca(state_dir: Path) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    # A key without its certificate is what a crash between the two files leaves: it is used again.
    key = _load_ca_key(state_dir)
    if key is None:
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomically(state_dir / "ca-key.pem", _key_pem(key))
    not_before, not_after = _validity(CA_DAYS)
    # Several machines' authorities in one trust store must be told apart.
    name = _name(f"Hybridge development CA {secrets.token_hex(4)}")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    pem = _pem(certificate)
    write_atomically(state_dir / "ca.pem", pem, mode=PUBLIC_FILE)
    return pem.decode()


def _validity(days: int) -> tuple[datetime.datetime, datetime.datetime]:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return now - datetime.timedelta(days=BACKDATED_DAYS), now + datetime.timedelta(days=days)


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
