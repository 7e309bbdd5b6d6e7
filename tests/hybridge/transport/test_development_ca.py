from __future__ import annotations

import datetime
import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hybridge.transport import development_ca
from hybridge.transport.development_ca import DevelopmentCa
from hybridge.transport.private_files import UnusableFile

NAMES = ("localhost", "127.0.0.1", "::1", "demo-ns.servicebus.windows.net", "*.example.test")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


def shake_hands(ca_pem: str, files: tuple[Path, Path], name: str) -> None:
    """Do a TLS handshake in memory, with the checks that Python 3.13 makes by default."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(*files)
    client_context = ssl.create_default_context(cadata=ca_pem)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [client, server]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "::1", "demo-ns.servicebus.windows.net", "a.example.test"]
)
def test_a_strict_client_trusts_every_name(state_dir: Path, name: str) -> None:
    ca = DevelopmentCa.load_or_create(state_dir)

    shake_hands(ca.pem, ca.certificate_for(NAMES), name)


@pytest.mark.parametrize("name", ["example.test", "a.b.example.test", "127.0.0.2", "localhos"])
def test_no_client_trusts_another_name(state_dir: Path, name: str) -> None:
    ca = DevelopmentCa.load_or_create(state_dir)

    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ca.pem, ca.certificate_for(NAMES), name)


def test_a_client_that_does_not_know_the_ca_does_not_trust_it(
    state_dir: Path, tmp_path: Path
) -> None:
    other = DevelopmentCa.load_or_create(tmp_path / "other")

    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(
            other.pem, DevelopmentCa.load_or_create(state_dir).certificate_for(NAMES), "localhost"
        )


def test_the_certificates_carry_what_strict_checkers_look_for(state_dir: Path) -> None:
    ca = DevelopmentCa.load_or_create(state_dir)
    path, _ = ca.certificate_for(NAMES)

    root = x509.load_pem_x509_certificate(ca.pem.encode()).extensions
    leaf = x509.load_pem_x509_certificate(path.read_bytes()).extensions

    assert root.get_extension_for_class(x509.BasicConstraints).value.ca
    assert root.get_extension_for_class(x509.KeyUsage).critical
    assert root.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert leaf.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not leaf.get_extension_for_class(x509.BasicConstraints).value.ca
    assert (
        leaf.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        == root.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )
    assert leaf.get_extension_for_class(x509.SubjectKeyIdentifier)


def test_the_key_is_on_the_curve_that_the_programs_dial_with(state_dir: Path) -> None:
    path, _ = DevelopmentCa.load_or_create(state_dir).certificate_for(NAMES)

    key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()

    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_the_files_are_private_but_for_the_certificate_of_the_ca(state_dir: Path) -> None:
    DevelopmentCa.load_or_create(state_dir).certificate_for(NAMES)

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in state_dir.iterdir()}
    assert modes == {".lock": 0o600, "ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o600}
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700


def test_a_restart_keeps_both_certificates(state_dir: Path) -> None:
    first = DevelopmentCa.load_or_create(state_dir)
    before = first.certificate_for(NAMES)[0].read_bytes()

    second = DevelopmentCa.load_or_create(state_dir)
    after = second.certificate_for([*reversed(NAMES), "LOCALHOST"])[0].read_bytes()

    assert (second.pem, after) == (first.pem, before)


def test_a_restart_loads_no_cryptography(state_dir: Path) -> None:
    DevelopmentCa.load_or_create(state_dir).certificate_for(NAMES)
    code = (
        "import sys, pathlib\n"
        "from hybridge.transport.development_ca import DevelopmentCa\n"
        "DevelopmentCa.load_or_create(pathlib.Path(sys.argv[1])).certificate_for(sys.argv[2:])\n"
        "assert 'cryptography' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", code, str(state_dir), *NAMES], check=True)  # noqa: S603


def test_other_names_make_another_certificate_and_keep_the_ca(state_dir: Path) -> None:
    ca = DevelopmentCa.load_or_create(state_dir)
    before = ca.certificate_for(NAMES)[0].read_bytes()

    files = DevelopmentCa.load_or_create(state_dir).certificate_for([*NAMES, "relay"])

    assert files[0].read_bytes() != before
    shake_hands(ca.pem, files, "relay")


def test_a_certificate_near_its_end_is_made_anew(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(development_ca, "SERVER_DAYS", development_ca.RENEWAL_DAYS)
        old = DevelopmentCa.load_or_create(state_dir).certificate_for(NAMES)[0].read_bytes()

    ca = DevelopmentCa.load_or_create(state_dir)
    new = ca.certificate_for(NAMES)[0].read_bytes()

    assert new != old
    left = x509.load_pem_x509_certificate(new).not_valid_after_utc - datetime.datetime.now(
        datetime.UTC
    )
    assert left.days > 300


def test_a_ca_near_its_end_is_made_anew_and_the_certificate_with_it(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(development_ca, "CA_DAYS", development_ca.RENEWAL_DAYS)
        old = DevelopmentCa.load_or_create(state_dir)
        old.certificate_for(NAMES)

    new = DevelopmentCa.load_or_create(state_dir)

    assert new.pem != old.pem
    shake_hands(new.pem, new.certificate_for(NAMES), "localhost")


@pytest.mark.parametrize("damage", [b"", b"{}\n", b'{"names": []}', b"\xff\xfe", None])
def test_a_damaged_server_certificate_is_made_anew(state_dir: Path, damage: bytes | None) -> None:
    ca = DevelopmentCa.load_or_create(state_dir)
    path, _ = ca.certificate_for(NAMES)
    if damage is None:
        damage = path.read_bytes()[:-100]
    path.write_bytes(damage)

    shake_hands(ca.pem, ca.certificate_for(NAMES), "localhost")


def test_a_key_without_its_certificate_is_used_again(state_dir: Path) -> None:
    DevelopmentCa.load_or_create(state_dir)
    key = (state_dir / "ca-key.pem").read_bytes()
    (state_dir / "ca.pem").unlink()

    ca = DevelopmentCa.load_or_create(state_dir)

    assert (state_dir / "ca-key.pem").read_bytes() == key
    shake_hands(ca.pem, ca.certificate_for(NAMES), "localhost")


@pytest.mark.parametrize("damage", [b"", b"garbage", b"\xff\xff", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_damaged_ca_is_not_replaced_behind_the_users_back(state_dir: Path, damage: bytes) -> None:
    DevelopmentCa.load_or_create(state_dir)
    (state_dir / "ca.pem").write_bytes(damage)

    with pytest.raises(UnusableFile, match=r"ca\.pem: is not a certificate") as caught:
        DevelopmentCa.load_or_create(state_dir)

    assert "delete ca.pem and ca-key.pem" in caught.value.hint
    assert (state_dir / "ca.pem").read_bytes() == damage


def test_a_key_that_is_missing_corrupt_or_anothers_is_named(
    state_dir: Path, tmp_path: Path
) -> None:
    ca = DevelopmentCa.load_or_create(state_dir)
    DevelopmentCa.load_or_create(tmp_path / "other")
    key = state_dir / "ca-key.pem"

    key.write_bytes(b"garbage")
    with pytest.raises(UnusableFile, match=r"ca-key\.pem: is not a private key"):
        ca.certificate_for(NAMES)
    key.write_bytes((tmp_path / "other" / "ca-key.pem").read_bytes())
    with pytest.raises(UnusableFile, match=r"ca-key\.pem: is not the key of ca\.pem"):
        ca.certificate_for(NAMES)
    key.unlink()
    with pytest.raises(UnusableFile, match="key is missing"):
        ca.certificate_for(NAMES)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("", "is not a private key"),
        ("garbage", "is not a private key"),
        ("cut", "is not a private key"),
        ("locked", "is not a private key"),
        ("another's", r"is not the key of ca\.pem"),
    ],
)
def test_a_damaged_ca_key_is_named_even_when_nothing_is_signed(
    state_dir: Path, tmp_path: Path, damage: str, problem: str
) -> None:
    DevelopmentCa.load_or_create(state_dir).certificate_for(NAMES)
    key = state_dir / "ca-key.pem"
    match damage:
        case "cut":
            key.write_bytes(key.read_bytes()[:-60])
        case "locked":
            private = serialization.load_pem_private_key(key.read_bytes(), password=None)
            key.write_bytes(
                private.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.BestAvailableEncryption(b"a password"),
                )
            )
        case "another's":
            DevelopmentCa.load_or_create(tmp_path / "other")
            key.write_bytes((tmp_path / "other" / "ca-key.pem").read_bytes())
        case text:
            key.write_text(text)

    with pytest.raises(UnusableFile, match=rf"ca-key\.pem: {problem}") as caught:
        DevelopmentCa.load_or_create(state_dir)

    assert "restore it from a backup" in caught.value.hint


def test_a_ca_key_that_others_may_read_is_refused_even_when_nothing_is_signed(
    state_dir: Path,
) -> None:
    DevelopmentCa.load_or_create(state_dir).certificate_for(NAMES)
    os.chmod(state_dir / "ca-key.pem", 0o640)

    with pytest.raises(UnusableFile, match="others may read it"):
        DevelopmentCa.load_or_create(state_dir)


def test_a_long_name_fits(state_dir: Path) -> None:
    name = "a" * 63 + ".servicebus.windows.net"
    ca = DevelopmentCa.load_or_create(state_dir)

    shake_hands(ca.pem, ca.certificate_for([name]), name)
