"""Why TLS failed: a second handshake that trusts everybody shows whose certificate it is."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from devstack.doctor.faults import Fault
from devstack.doctor.finding import Finding, fail
from devstack.doctor.reach import open_socket
from hybridge.protocol.errors import RelayError
from hybridge.transport.sockets import describe
from hybridge.transport.tls import open_tls

if TYPE_CHECKING:
    from cryptography import x509

    from devstack.doctor.case import Case
    from hybridge.protocol.connection_string import ConnectionString

DEVELOPMENT_CA = "Hybridge development CA"
"""How the authorities of our own relays are named."""

AZURE_SUFFIX = ".servicebus.windows.net"

# X509_V_ERR_*: numbers are part of OpenSSL's interface, its texts are not.
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAMES = (62, 64)
_NO_ISSUER = (2, 18, 19, 20, 21)

_PLAIN_TEXT = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_TOO_SMALL")
"""What OpenSSL says of bytes that are no TLS record."""


def seen_on(tls: ssl.SSLSocket | ssl.SSLObject) -> str:
    """Say who issued a verified certificate, and until when it is good."""
    der = tls.getpeercert(binary_form=True)
    certificate = None if der is None else _parsed(der)
    if certificate is None:
        return "an unknown authority"
    end = certificate.not_valid_after_utc
    return f"'{_name(certificate.issuer)}', good until {end:%Y-%m-%d}"


async def explain(error: OSError, case: Case, given: ConnectionString) -> Finding:
    """Name the fault of a TLS handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrusted(error, await _certificate(case, given), case, given)
    reason = getattr(error, "reason", None) or ""
    if reason in _PLAIN_TEXT:
        return fail(Fault.NOT_TLS)
    # Servers of another version break off, with or without saying why.
    version = await _version(case, given)
    if version in ("SSLv3", "TLSv1", "TLSv1.1"):
        return fail(Fault.TLS_TOO_OLD, f"the other end speaks {version}, and nothing newer")
    if version == "TLSv1.3":
        what = f"the other end speaks {version} only, and Hybridge's own ends speak TLS 1.2"
        return fail(Fault.TLS_FAILED, what, next_step="allow TLS 1.2 there")
    said = reason.lower().replace("_", " ") or describe(error)
    return fail(Fault.TLS_FAILED, f"the TLS handshake breaks off: {said}")


def _distrusted(
    error: ssl.SSLCertVerificationError,
    certificate: x509.Certificate | None,
    case: Case,
    given: ConnectionString,
) -> Finding:
    issuer = "" if certificate is None else _name(certificate.issuer)
    by = f" issued by '{issuer}'" if issuer else ""
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        when = ""
        if certificate is not None:
            start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            when = f": good from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
        what = f"the certificate{by} {_EXPIRY_WORDS[error.verify_code]}{when}"
        return fail(Fault.CERTIFICATE_EXPIRED, what)
    if error.verify_code in _WRONG_NAMES:
        names = "" if certificate is None else ", ".join(_subjects(certificate)[:4])
        what = f"the certificate{by} is for {names or 'other names'}, not for {given.host}"
        return fail(Fault.WRONG_NAME, what)
    if error.verify_code not in _NO_ISSUER:
        what = f"the certificate{by} is not accepted: {error.verify_message}"
        return fail(Fault.CERTIFICATE_UNUSABLE, what)
    what = f"the certificate of {given.host} is not trusted by this machine"
    if issuer:
        what = f"the certificate of {given.host} is{by}, whom this machine does not trust"
    return fail(Fault.UNTRUSTED_ISSUER, what, next_step=_trust(issuer, case, given))


_EXPIRY_WORDS = {_EXPIRED: "is expired", _NOT_YET_VALID: "is not good yet"}


def _trust(issuer: str, case: Case, given: ConnectionString) -> str:
    if issuer.startswith(DEVELOPMENT_CA):
        also = "the --ca that was given is of another relay: " if case.ca is not None else ""
        return f"{also}give the relay's own: hybridge-relay ca > ca.pem, then --ca ca.pem"
    if given.host.endswith(AZURE_SUFFIX):
        return (
            "a proxy that inspects TLS has signed it anew: export that authority's certificate and "
            f"give it with --ca, or exempt *{AZURE_SUFFIX} from inspection"
        )
    return "give this authority's certificate with --ca"


def _name(name: x509.Name) -> str:
    from cryptography.x509.oid import NameOID

    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return str(attribute.value)
    return name.rfc4514_string()


def _subjects(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return [_name(certificate.subject)]
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(each) for each in names.get_values_for_type(x509.IPAddress)),
    ]


async def _certificate(case: Case, given: ConnectionString) -> x509.Certificate | None:
    """Fetch the certificate that was not trusted; None if it does not come a second time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    seen = await _handshake(context, case, given)
    return None if seen is None or seen[0] is None else _parsed(seen[0])


def _parsed(der: bytes) -> x509.Certificate | None:
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


async def _version(case: Case, given: ConnectionString) -> str | None:
    """Find out which version is spoken there, the unsafe ones included. Nothing is sent by it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    seen = await _handshake(context, case, given)
    return None if seen is None else seen[1]


async def _handshake(
    context: ssl.SSLContext, case: Case, given: ConnectionString
) -> tuple[bytes | None, str | None] | None:
    """Shake hands and leave; give the certificate and the version, or None."""
    try:
        async with asyncio.timeout(case.timeout_seconds):
            sock = await open_socket(case, given)
            wire = await open_tls(sock, context, server_hostname=given.host)
    except (RelayError, OSError):
        return None
    try:
        return wire.tls.getpeercert(binary_form=True), wire.tls.version()
    finally:
        wire.abort()
