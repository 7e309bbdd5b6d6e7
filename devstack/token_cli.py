"""The commands ``hybridge token create`` and ``hybridge token inspect``."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import click

from hybridge.program.command_line import FILE
from hybridge.program.connection_strings import parse_one
from hybridge.program.help_screen import Group
from hybridge.program.host_port import TARGET
from hybridge.program.sdk_options import check_ca
from hybridge.protocol import address, sas, token_inspection, token_text
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import InvalidAudience, InvalidSetting, MalformedAddress, RelayError
from hybridge.protocol.token_faults import Fault, Part, Refusal
from hybridge.protocol.token_inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.token_report import Asked
    from hybridge.protocol.connection_string import ConnectionString

EXIT_VALID = 0
EXIT_NOT_VALID = 1

MAX_INPUT_BYTES = 4 * token_text.MAX_TEXT_CHARACTERS
"""How much of standard input or a file is read."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_Function = TypeVar("_Function", bound="Callable[..., Any]")


class _Duration(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4
    """The type of an option such as ``15m``; gives seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"([0-9]{1,12})([smhd])", str(value))
        if found is None or not int(found[1]):
            raise InvalidSetting(
                "--expires-in", f"{value!r} is not a duration", hint="write 90s, 15m, 1h or 7d"
            )
        return int(found[1]) * _UNIT_SECONDS[found[2]]


def _connection_string_options(function: _Function) -> _Function:
    function = click.option(
        "--connection-string-file",
        type=FILE,
        metavar="FILE",
        envvar="HYBRIDGE_CONNECTION_STRING_FILE",
        help="The same from a file.",
    )(function)
    return click.option(
        "--connection-string",
        metavar="TEXT",
        envvar="HYBRIDGE_CONNECTION_STRING",
        help="Of the rule that signs, with its key.",
    )(function)


@click.group(
    "token",
    cls=Group,
    epilog="""\b
Example:
  hybridge token create --connection-string "$ORDERS_SEND" --expires-in 15m""",
)
def token() -> None:
    """Make Shared Access Signature tokens, and look into them."""


@token.command(
    epilog="""\b
Example:
  hybridge token create --connection-string "$ORDERS_SEND" --expires-in 15m"""
)
@_connection_string_options
@click.option(
    "--resource",
    metavar="URI",
    help="What it opens.  [http://HOST/NAME/]",
)
@click.option(
    "--expires-in",
    type=_Duration(),
    default="1h",
    show_default=True,
    metavar="TIME",
    help="90s, 15m, 1h or 7d from now.",
)
def create(
    *,
    connection_string: str | None,
    connection_string_file: Path | None,
    resource: str | None,
    expires_in: int,
) -> None:
    """Print a new token, and nothing else, on standard output.

    Whoever has the token may do what its rule grants until it expires: it is a secret.
    """
    given = parse_one(connection_string, connection_string_file)
    if given is None:
        raise InvalidSetting(
            "--connection-string",
            "none is given",
            hint="give one, or HYBRIDGE_CONNECTION_STRING, so that no key is on the command line",
        )
    if given.key is None or given.key_name is None:
        raise InvalidSetting(
            "connection string",
            "it has no key to sign with",
            hint="use one with SharedAccessKeyName and SharedAccessKey",
        )
    expires_at = int(time.time()) + expires_in
    if expires_at > sas.LAST_EXPIRY:
        raise InvalidSetting("--expires-in", "it ends after the year 9999", hint="write 1h or 7d")
    if resource is None:
        resource = sas.resource_of(given.host, given.path or "")
    else:
        _check_resource(resource, given)
    text = sas.sign(
        resource, key_name=given.key_name, key=given.key.reveal(), expires_at=expires_at
    )
    if len(text) > sas.MAX_TOKEN_BYTES:
        raise InvalidSetting("--resource", "it is too long for a token", hint="sign a shorter one")
    click.echo(text)


def _check_resource(resource: str, given: ConnectionString) -> None:
    try:
        host = sas.parse_resource(resource).host
    except InvalidAudience as error:
        raise InvalidSetting(
            "--resource",
            f"no relay takes it: {error}",
            hint=f"write {sas.resource_of(given.host, given.path or 'NAME')}",
        ) from None
    if host != given.host:
        click.echo(
            f"hybridge: note: the token is for {host}, and the connection string for {given.host}",
            err=True,
        )


@token.command(
    epilog="""\b
Example:
  hybridge token inspect --relay localhost:8443 --ca ca.pem --file token.txt"""
)
@_connection_string_options
@click.option(
    "--relay",
    metavar="URL",
    help="Send it to HOST[:PORT][/NAME], opens nothing.",
)
@click.option(
    "--right",
    type=click.Choice(["listen", "send"]),
    help="Not valid without it; needs --relay.",
)
@click.option(
    "--ca", type=FILE, metavar="FILE", envvar="HYBRIDGE_CA",
    help="Trust these certificates too, PEM.",
)  # fmt: skip
@click.option(
    "--connect-to", type=TARGET, metavar="HOST:PORT", envvar="HYBRIDGE_CONNECT_TO",
    help="Dial this, not the relay's host.",
)  # fmt: skip
@click.option(
    "--proxy", metavar="URL|@FILE", envvar="HYBRIDGE_PROXY",
    help="HTTP or SOCKS5; none for none.  [HTTPS_PROXY]",
)  # fmt: skip
@click.option("--file", "file", type=FILE, metavar="FILE", help="File that holds the token.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("text", metavar="[TOKEN|-]", required=False)
@click.pass_context
def inspect(
    context: click.Context,
    /,
    *,
    connection_string: str | None,
    connection_string_file: Path | None,
    relay: str | None,
    right: str | None,
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    file: Path | None,
    as_json: bool,
    text: str | None,
) -> int:
    """Show what a token says, and what is wrong with it.

    The token is an argument, a file, or standard input. No key and no signature is shown. Exit
    code: 0 valid, or nothing wrong found; 1 not valid; 2 usage.
    """
    from devstack.token_report import Report

    if text is not None and file is not None:
        raise click.UsageError("TOKEN and --file are two tokens; give one of them", context)
    given = parse_one(connection_string, connection_string_file)
    now = time.time()
    inspection = token_inspection.inspect(
        _token_text(context, text, file, given), now=now, connection_string=given
    )
    asked = None if relay is None else _ask(relay, inspection, given, _Way(ca, connect_to, proxy))
    report = Report(
        inspection=inspection,
        connection_string=given,
        now=now,
        asked=asked,
        claim_fault=_claim_fault(right, asked),
    )
    click.echo(
        json.dumps(report.fields(), indent=2, ensure_ascii=False) if as_json else report.text()
    )
    if asked is not None and asked.error is not None:
        raise asked.error
    return EXIT_NOT_VALID if report.is_valid is False else EXIT_VALID


def _token_text(
    context: click.Context, text: str | None, file: Path | None, given: ConnectionString | None
) -> str:
    if file is not None:
        try:
            with file.open("rb") as opened:
                return _decoded(opened.read(MAX_INPUT_BYTES))
        except OSError as error:
            raise InvalidSetting(
                "--file", f"{file}: {error.strerror}", hint="name a file with one token"
            ) from None
    if text is not None and text != "-":
        return text
    if text is None and given is not None and given.token is not None:
        return given.token.reveal()
    if text is None and sys.stdin.isatty():
        raise click.UsageError("no token: give it, or - for standard input, or --file", context)
    return _decoded(sys.stdin.buffer.read(MAX_INPUT_BYTES))


def _decoded(data: bytes) -> str:
    # PowerShell writes files in UTF-16.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    return data.decode(encoding, "replace")


# --- Asking a relay -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """How the relay is reached."""

    ca: Path | None
    connect_to: tuple[str, int] | None
    proxy: str | None = field(repr=False)


def _ask(
    relay: str,
    inspection: Inspection,
    given: ConnectionString | None,
    way: _Way,
) -> Asked | None:
    import asyncio

    from devstack.token_report import Asked
    from hybridge.program.proxy_setting import choose_proxy, given_proxy
    from hybridge.token_check import ask_relay

    check_ca(way.ca)
    proxy = choose_proxy(given_proxy(way.proxy), None, key="Proxy")
    host, port, path = _parse_relay(relay)
    if not path and given is not None:
        path = given.path or ""
    if not path and inspection.parts is not None and inspection.parts.opened is not None:
        path = "/".join(inspection.parts.opened.segments)
    if not inspection.text:
        return None  # What is no token is not sent anywhere: it may be a key.
    if not path:
        raise InvalidSetting(
            "--relay", "it names no hybrid connection", hint=f"write sb://{host}:{port}/NAME"
        )
    try:
        verdict = asyncio.run(
            ask_relay(
                inspection.text.reveal(),
                host=host,
                port=port,
                path=path,
                ca=way.ca,
                connect_to=way.connect_to,
                proxy=proxy,
            )
        )
    except InvalidSetting:
        raise
    except RelayError as error:
        return Asked(host=host, port=port, path=path, verdict=None, error=error)
    return Asked(host=host, port=port, path=path, verdict=verdict)


def _parse_relay(text: str) -> tuple[str, int, str]:
    hint = "write sb://localhost:8443/orders"
    scheme, mark, rest = text.partition("://")
    if not mark:
        rest = text
    elif scheme.lower() not in ("sb", "https", "wss"):
        raise InvalidSetting("--relay", "it does not begin with sb:// or https://", hint=hint)
    authority, _, path = rest.partition("/")
    try:
        host, port = address.split_authority(authority)
    except MalformedAddress as error:
        raise InvalidSetting("--relay", str(error), hint=hint) from None
    path = unquote(path.partition("?")[0]).strip("/")
    return host, port or address.DEFAULT_PORT, path.removeprefix("$hc/")


def _claim_fault(right: str | None, asked: Asked | None) -> Fault | None:
    if right is None or asked is None or asked.verdict is None or asked.verdict.opens is False:
        return None
    claim = Claim.parse([right])
    may = asked.verdict.may_listen if right == "listen" else asked.verdict.may_send
    if may is not False:
        return None
    return Fault(
        part=Part.CLAIM,
        refusal=Refusal.CLAIM,
        problem=f"its rule does not grant {claim}",
        remedy=f"sign with a rule that grants {claim}",
    )
