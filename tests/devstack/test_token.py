"""Transcripts of ``hybridge token create`` and ``inspect``, good and bad."""

from __future__ import annotations

import asyncio
import base64
import hmac
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from devstack.cli import PROGRAM, cli
from hybridge.protocol import sas
from tests.support.command import exit_code_of
from tests.support.relay import HOST, KEY, SECOND_KEY, running_relay

SEND = f"Endpoint=sb://{HOST}/;SharedAccessKeyName=sendrule;SharedAccessKey={KEY};EntityPath=hc1"
LISTEN = SEND.replace("sendrule", "listenrule").replace(KEY, SECOND_KEY)
FAR = 4_000_000_000
GOOD = sas.sign(f"http://{HOST}/hc1/", key_name="sendrule", key=KEY, expires_at=FAR)
SIGNATURE = GOOD.partition("&sig=")[2].partition("&")[0]

Run = Callable[..., tuple[int, str, str]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``hybridge token``; give exit code, output and errors. No secret is ever in them."""
    for name in ("HYBRIDGE_CONNECTION_STRING", "HYBRIDGE_CONNECTION_STRING_FILE", "HYBRIDGE_CA"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str, stdin: bytes | None = b"") -> tuple[int, str, str]:
        typed = Terminal() if stdin is None else io.TextIOWrapper(io.BytesIO(stdin))
        monkeypatch.setattr("sys.stdin", typed)
        code = exit_code_of(cli, PROGRAM, "token", *args)
        output, errors = capsys.readouterr()
        shown = errors if args[0] == "create" else output + errors
        for secret in (KEY, SECOND_KEY, SIGNATURE, unquote(SIGNATURE)):
            assert secret not in shown
        return code, output, errors

    return run


# --- create ---------------------------------------------------------------------------------------


def test_create_prints_just_a_token_that_is_good_for_an_hour(run: Run) -> None:
    before = int(time.time())

    code, output, errors = run("create", "--connection-string", SEND)

    assert (code, errors, output.count("\n")) == (0, "", 1)
    token = sas.parse(output.strip())
    assert sas.has_valid_signature(token, [KEY])
    assert (token.resource, token.key_name) == (f"http://{HOST}/hc1/", "sendrule")
    assert before + 3_600 <= token.expires_at <= time.time() + 3_600


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800)]
)
def test_create_takes_durations_with_a_unit(run: Run, text: str, seconds: int) -> None:
    before = int(time.time())

    _, output, _ = run("create", "--connection-string", SEND, "--expires-in", text)

    assert 0 <= sas.parse(output.strip()).expires_at - before - seconds <= 20


def test_create_takes_the_connection_string_from_the_environment_or_a_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "send"
    file.write_text(f"# the sender's\n{SEND}\n")

    assert sas.parse(run("create", "--connection-string-file", str(file))[1].strip())
    monkeypatch.setenv("HYBRIDGE_CONNECTION_STRING", SEND)
    assert sas.parse(run("create")[1].strip()).key_name == "sendrule"


def test_create_signs_the_resource_as_it_is_written(run: Run) -> None:
    resource = f"sb://{HOST}:8443/HC1/sub?x=1"

    _, output, errors = run("create", "--connection-string", SEND, "--resource", resource)

    assert (sas.parse(output.strip()).resource, errors) == (resource, "")


def test_create_remarks_on_a_resource_of_another_host(run: Run) -> None:
    code, output, errors = run(
        "create", "--connection-string", SEND, "--resource", "http://localhost/hc1"
    )

    assert (code, sas.parse(output.strip()).resource) == (0, "http://localhost/hc1")
    assert errors == (
        f"hybridge: note: the token is for localhost, and the connection string for {HOST}\n"
    )


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        ((), "--connection-string: none is given", "HYBRIDGE_CONNECTION_STRING"),
        (("--connection-string", "x"), "connection string: part 1 has no '='", "Endpoint="),
        (
            ("--connection-string", f"Endpoint=sb://{HOST}/"),
            "it has no key to sign with",
            "SharedAccessKey",
        ),
        (("--connection-string", SEND, "--expires-in", "1"), "'1' is not a duration", "15m"),
        (("--connection-string", SEND, "--expires-in", "0s"), "'0s' is not a duration", "15m"),
        (("--connection-string", SEND, "--expires-in", "1h30m"), "is not a duration", "15m"),
        (("--connection-string", SEND, "--expires-in", "9999999d"), "after the year 9999", "7d"),
        (
            ("--connection-string", SEND, "--resource", "hc1"),
            "no relay takes it",
            f"http://{HOST}/hc1/",
        ),
        (
            ("--connection-string", SEND, "--resource", f"http://{HOST}/../x"),
            "a dot segment",
            "write",
        ),
        (
            ("--connection-string", SEND, "--resource", f"http://{HOST}/" + "x" * 4_096),
            "too long",
            "shorter",
        ),
        (("--connection-string-file", "/nowhere"), "/nowhere: cannot be read", "name a file"),
    ],
)
def test_create_says_what_is_wrong_with_what_it_was_given(
    run: Run, args: tuple[str, ...], error: str, hint: str
) -> None:
    code, output, errors = run("create", *args)

    assert (code, output) == (2, "")
    first, second = errors.splitlines()
    assert first.startswith("hybridge: error: ")
    assert error in first
    assert second.startswith("hybridge: hint: ")
    assert hint in second


def test_a_file_with_several_connection_strings_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "both"
    file.write_text(f"{SEND}\n{LISTEN}\n")

    code, _, errors = run("create", "--connection-string-file", str(file))

    assert code == 2
    assert "holds several connection strings" in errors


# --- inspect --------------------------------------------------------------------------------------


def test_inspect_shows_a_good_token_decoded(run: Run) -> None:
    code, output, errors = run("inspect", "--connection-string", SEND, GOOD)

    assert (code, errors) == (0, "")
    distance = f"in {(FAR - int(time.time())) // 31_557_600} years"
    assert (
        output
        == f"""\
Shared Access Signature

  resource   http://{HOST}/hc1/
  opens      the hybrid connection 'hc1' of {HOST}, and what is below it
  rule       sendrule
  expires    2096-10-02 07:06:40 UTC, {distance}
  written as Microsoft's .NET library, or Hybridge

Checked with the connection string of rule 'sendrule' for sb://{HOST}/hc1

  rule       ok
  audience   ok
  signature  ok
  expiry     ok: a long life: only a new key ends it early
  right      unknown: only a relay knows what a rule grants: give --relay

Valid.
"""
    )


@pytest.mark.parametrize("args", [("-",), ()])
def test_inspect_reads_standard_input(run: Run, args: tuple[str, ...]) -> None:
    assert run("inspect", *args, stdin=f"{GOOD}\r\n".encode())[0] == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_inspect_reads_a_file(run: Run, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "token"
    file.write_text(f"{GOOD}\n", encoding=encoding)

    code, output, _ = run("inspect", "--file", str(file))

    assert code == 0
    assert output.endswith("\nNothing wrong was found. The signature was not checked.\n")


def test_inspect_looks_into_the_token_of_a_connection_string(run: Run) -> None:
    ready = f"Endpoint=sb://{HOST}/;SharedAccessSignature={GOOD};EntityPath=hc1"

    code, output, _ = run("inspect", "--connection-string", ready)

    assert code == 0
    assert f"Checked with a connection string for sb://{HOST}/hc1, which has no key" in output
    assert "  audience   ok\n" in output


def signed(**changed: object) -> str:
    fields: dict[str, object] = {
        "resource": f"http://{HOST}/hc1/", "key_name": "sendrule", "key": KEY, "expires_at": FAR,
    }  # fmt: skip
    fields |= changed
    resource, key_name, key = (str(fields[name]) for name in ("resource", "key_name", "key"))
    return sas.sign(resource, key_name=key_name, key=key, expires_at=int(str(fields["expires_at"])))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            GOOD[:70],
            [
                "'sig' and 'se' and 'skn' are missing or empty",
                "→ copy the whole token",
                "MalformedToken",
            ],
        ),
        (quote(quote(GOOD)), ["the whole token is URL-encoded once more", "MalformedToken"]),
        (
            f'"{GOOD}"',
            ["there are quotation marks around it", "→ leave them out", "MalformedToken"],
        ),
        (f"Authorization: {GOOD}", ["'Authorization:' stands in front of it", "MalformedToken"]),
        (
            signed(key_name="listenrule", key=SECOND_KEY),
            [
                "rule       wrong: it names rule 'listenrule', and the connection string is of",
                "→ give the connection string of rule 'listenrule'",
                "InvalidSignature.",
            ],
        ),
        (
            signed(key=SECOND_KEY),
            ["signature  wrong: this key did not make it", "→ take the", "InvalidSignature."],
        ),
        (
            signed(resource="http://elsewhere.test/hc1/"),
            [
                "audience   wrong: it is for elsewhere.test",
                f"→ sign http://{HOST}/hc1/",
                "InvalidAudience.",
            ],
        ),
        (signed(resource=f"http://{HOST}/hc10"), ["it is for 'hc10'", "InvalidAudience."]),
        (
            signed(expires_at=1_767_225_600),
            ["expired    2026-01-01 00:00:00 UTC", "→ make a new one", "ExpiredToken."],
        ),
        (
            signed(resource="http://elsewhere.test/", key="x", expires_at=1_767_225_600),
            ["InvalidSignature, for the first of 3 faults."],
        ),
        (
            "eyJhbGciOiJub25lIn0.eyJhdWQiOiJodHRwczovL3JlbGF5LmF6dXJlLm5ldC8ifQ.c2ln",
            [
                "JSON Web Token, as of Entra ID",
                "audience   https://relay.azure.net/",
                "→ Azure takes it",
                "MalformedToken.",
            ],
        ),
        (SEND, ["Connection string", "it is a connection string, and no token", "MalformedToken."]),
        (KEY, ["it looks like a key, and is no token", "MalformedToken."]),
        ("x", ["it does not begin with 'SharedAccessSignature'", "MalformedToken."]),
        (
            signed(key_name=KEY, key="sendrule"),
            ["rule       *** (it looks like a key)", "InvalidSignature."],
        ),
        (
            signed(resource=f"http://{HOST}/hc1?sb-hc-sas-key={KEY}&sb-hc-token=x"),
            ["sb-hc-sas-key=***", "Valid."],
        ),
        (signed(resource=f"http://{HOST}/hc1\x1b[31m\n"), ["\\x1b[31m", "InvalidAudience."]),
        ("", ["there is no token", "MissingToken."]),
    ],
)
def test_inspect_says_what_is_wrong_and_what_would_be_right(
    run: Run, text: str, shown: list[str]
) -> None:
    code, output, errors = run("inspect", "--connection-string", SEND, "-", stdin=text.encode())

    assert (code, errors) == (0 if "Valid." in shown else 1, "")
    for each in shown:
        assert each in output
    assert output.isprintable() or "\x1b" not in output


def test_inspect_tells_a_key_that_was_decoded_from_base64(run: Run) -> None:
    sr = quote(f"http://{HOST}/hc1/", safe="")
    digest = hmac.digest(base64.b64decode(KEY), f"{sr}\n{FAR}".encode(), "sha256")
    sig = quote(base64.b64encode(digest), safe="")
    text = f"SharedAccessSignature sr={sr}&sig={sig}&se={FAR}&skn=sendrule"

    code, output, _ = run("inspect", "--connection-string", SEND, text)

    assert code == 1
    assert "  signature  wrong: it was made with the base64-decoded key\n" in output
    assert "             → the key is its text as it is shown" in output


def test_inspect_prints_one_object_for_programs(run: Run) -> None:
    code, output, _ = run("inspect", "--connection-string", SEND, "--json", signed(expires_at=9))

    told = json.loads(output)
    assert code == 1
    assert told["valid"] is False
    assert (told["rule"], told["expiresAt"]) == ("sendrule", 9)
    assert [check["part"] for check in told["checks"]] == [
        "rule", "audience", "signature", "expiry", "right",
    ]  # fmt: skip
    assert [fault["refusal"] for fault in told["faults"]] == ["ExpiredToken"]
    assert "relay" not in told
    assert json.loads(run("inspect", "--json", GOOD)[1])["valid"] is None
    claims = json.loads(run("inspect", "--json", "eyJhbGciOiJub25lIn0.eyJhdWQiOiJhIn0.c2ln")[1])
    assert claims["claims"] == {"audience": "a"}


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("--file", "x", GOOD), "TOKEN and --file are two tokens; give one of them"),
        (("--file", "/nowhere"), "--file: /nowhere: No such file or directory"),
        (("--relay", "ftp://x", GOOD), "--relay: it does not begin with sb:// or https://"),
        (("--relay", "a b", GOOD), "--relay: The host is not a name"),
        (
            ("--relay", "localhost", signed(resource=f"http://{HOST}/")),
            "--relay: it names no hybrid connection",
        ),
        (("--relay", "localhost", "--ca", "/nowhere", GOOD), "--ca: /nowhere"),
        (("--connection-string", "x", GOOD), "connection string: part 1 has no '='"),
    ],
)
def test_inspect_refuses_what_it_cannot_use(run: Run, args: tuple[str, ...], error: str) -> None:
    code, output, errors = run("inspect", *args)

    assert (code, output) == (2, "")
    assert errors.startswith(f"hybridge: error: {error}")
    assert "hybridge: hint: " in errors


def test_on_a_terminal_a_token_must_be_given(run: Run) -> None:
    code, _, errors = run("inspect", stdin=None)

    assert code == 2
    assert "no token: give it, or - for standard input, or --file" in errors


# --- A relay is asked -----------------------------------------------------------------------------


async def test_inspect_reports_the_relays_own_verdict(run: Run) -> None:
    async with running_relay() as relay:
        options = (
            *("--ca", str(relay.ca), "--connect-to", f"127.0.0.1:{relay.port}"),
            *("--relay", f"sb://{HOST}:{relay.port}"),
        )

        async def inspect(*args: str) -> tuple[int, str, str]:
            return await asyncio.to_thread(run, "inspect", *options, *args)

        code, output, _ = await inspect(GOOD)
        assert code == 0
        assert output.endswith(
            f"Asked {HOST}:{relay.port} about 'hc1'\n\n"
            "  token      opens it: 200 OK\n  Listen     no\n  Send       yes\n\nValid.\n"
        )

        code, output, _ = await inspect("--right", "listen", GOOD)
        assert code == 1
        assert "  right      its rule does not grant Listen\n" in output
        assert "→ sign with a rule that grants Listen" in output
        assert "a relay answers 401 Authorization failed for specified action." in output
        assert (await inspect("--right", "send", GOOD))[0] == 0

        # The connection string is wrong, and the relay knows better.
        code, output, _ = await inspect("--connection-string", LISTEN, GOOD)
        assert code == 0
        assert "The relay takes it. It is the connection string that does not fit." in output

        code, output, _ = await inspect("--connection-string", SEND, signed(key="x"))
        assert code == 1
        assert (
            "does not open it: 401 InvalidSignature: The token has an invalid signature." in output
        )

        code, output, _ = await inspect("--json", signed(expires_at=9))
        told = json.loads(output)
        assert (code, told["relay"]["opens"], told["valid"]) == (1, False, False)
        assert told["relay"]["says"].startswith("401 ExpiredToken: ")

        # What is no token is not sent to anybody.
        code, output, _ = await inspect(KEY)
        assert (code, "Asked" in output) == (1, False)
        port = relay.port

    gone = ("--ca", str(relay.ca), "--relay", f"localhost:{port}/hc1")
    code, output, errors = await asyncio.to_thread(run, "inspect", *gone, "--json", GOOD)
    assert code == 1
    assert "cannot be reached" in json.loads(output)["relay"]["error"]
    assert errors.startswith("hybridge: error: the relay localhost cannot be reached")
