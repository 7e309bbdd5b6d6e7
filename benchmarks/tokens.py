"""How many tokens a second the relay decides on: `relay.core.authorization.authorize`, whole.

    python -m benchmarks.tokens [--count 20000] [--rounds 5]

One core; CPU time of this process, so that other programs do not disturb it. The best round of
several is what the machine can do; the others show how busy it is.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import click

from hybridge.protocol import sas
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import AuthorizationFailed
from hybridge.protocol.secret import Secret
from relay.core.authorization import authorize
from relay.namespace import MAX_RULES, AuthorizationRule, HybridConnection, Namespace

HOST = "contoso.servicebus.windows.net"
PATH = ("orders",)
NOW = 1_767_225_600.0


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of token."""

    name: str
    token: str


def _key(text: str) -> str:
    # As long as a generated key: 44 characters.
    return f"{text:x<43}="


def _rules(level: str) -> dict[str, AuthorizationRule]:
    rules = [
        AuthorizationRule(
            name=f"{level}-{number}",
            claims=Claim.LISTEN | Claim.SEND,
            primary_key=Secret(_key(f"{level}{number}primary")),
            secondary_key=Secret(_key(f"{level}{number}secondary")),
        )
        for number in range(MAX_RULES)
    ]
    return {rule.name: rule for rule in rules}


ORDERS = HybridConnection(name="orders", rules=_rules("entity"))
NAMESPACE = Namespace(
    name="contoso",
    hosts=(HOST, "localhost", "relay.example.test"),
    rules=_rules("namespace"),
    hybrid_connections={"orders": ORDERS},
)


def _token(key_name: str, key: str, *, path: str = "orders", lifetime: int = 3_600) -> str:
    return sas.sign(
        sas.resource_of(HOST, path),
        key_name=key_name,
        key=_key(key),
        expires_at=int(NOW) + lifetime,
    )


CASES = (
    Case("a rule of the hybrid connection, primary key", _token("entity-0", "entity0primary")),
    Case("a rule of the hybrid connection, secondary key", _token("entity-0", "entity0secondary")),
    Case("a rule of the namespace, secondary key", _token("namespace-0", "namespace0secondary")),
    Case("refused: a rule that nobody knows", _token("nobody", "nobody")),
    Case("refused: the key of another rule", _token("entity-0", "entity1primary")),
    Case("refused: another hybrid connection", _token("entity-0", "entity0primary", path="bills")),
    Case("refused: expired", _token("entity-0", "entity0primary", lifetime=-1)),
    Case("refused: no token at all", "Bearer " + "x" * 1_000),
)


def decide(token: str, count: int) -> float:
    """Decide on a token many times; give the CPU seconds that it took."""
    begun = time.process_time()
    for _ in range(count):
        with contextlib.suppress(AuthorizationFailed):
            authorize(NAMESPACE, ORDERS, token, claim=Claim.SEND, path_segments=PATH, now=NOW)
    return time.process_time() - begun


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--count", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(*, count: int, rounds: int) -> None:
    """Print decisions a second of CPU time, best and worst round, for each kind of token."""
    click.echo(f"{'tokens a second, one core':<48} {'best':>9} {'worst':>9}")
    for case in CASES:
        spent = [decide(case.token, count) for _ in range(rounds)]
        click.echo(f"{case.name:<48} {count / min(spent):>9,.0f} {count / max(spent):>9,.0f}")


if __name__ == "__main__":
    main()
