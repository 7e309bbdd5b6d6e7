"""Tokens of every kind, good and hostile, and a namespace to try them at."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from hypothesis import strategies as st

from hybridge.protocol.claims import Claim
from hybridge.protocol.secret import Secret
from relay.namespace import AuthorizationRule, HybridConnection, Namespace
from tests.support.sas_oracle import Served, Signed, signature_of

NOW = 1_767_225_600
HOST = "ns1.example.test"
NOT_BASE64 = "not base64, \u00f8 & =!"
HALF_EMPTY = ("", "second-key")
ROOT, BOTH = ("root-1", "root-2"), ("both-1", "both-2")
SERVED = Served(
    hosts=(HOST, "localhost", "::1"),
    namespace_rules={"Root": ("Listen,Send,Manage", ROOT), "both": ("Listen,Send,Manage", BOTH)},
    entities={
        "hc1": {
            "listener": ("Listen", (NOT_BASE64, "k" * 100)),
            "Both": ("Listen", ("own-1", "own-2")),
            "half": ("Send", HALF_EMPTY),
        },
        "hc10": {"listener": ("Listen", ("ten-1", "ten-2"))},
        "team/hc1": {"sender": ("Send", ("team-1", "team-2"))},
        "team": {},
    },
)
KEYS = [NOT_BASE64, "k" * 100, *HALF_EMPTY, *ROOT, *BOTH, "own-1", "own-2", "ten-1", "team-2", "x"]


def _rules(rules: object) -> dict[str, AuthorizationRule]:
    assert isinstance(rules, dict)
    return {
        name.lower(): AuthorizationRule(
            name=name,
            claims=Claim.parse(rights.split(",")),
            primary_key=Secret(primary),
            secondary_key=Secret(secondary),
        )
        for name, (rights, (primary, secondary)) in rules.items()
    }


NAMESPACE = Namespace(
    name="ns1",
    hosts=SERVED.hosts,
    rules=_rules(SERVED.namespace_rules),
    hybrid_connections={
        name: HybridConnection(name=name, rules=_rules(rules))
        for name, rules in SERVED.entities.items()
    },
)


# --- Tokens of every kind ------------------------------------------------------------------------

T = TypeVar("T")
Quoting = Callable[[str], str]
Signing = Callable[[str, str, str], bytes]

odd_schemes = st.sampled_from(["HTTP", "Sb", "ftp", "", "http ", "javascript"])
odd_hosts = st.sampled_from(
    [HOST.upper(), "localhost", "[::1]", "[::1", "::1", "[::1]x", "", "evil.test", f"{HOST}.",
     f"{HOST}.evil.test", "n\u017f1.example.test", "\u212a.test", "%6cocalhost", f"u@{HOST}",
     f"u:p@{HOST}", f"{HOST}@evil.test", f"%40{HOST}", f"{HOST}\\", f"{HOST}\\@evil.test",
     f"{HOST} "]
)  # fmt: skip
odd_ports = st.sampled_from([":443", ":8443", ":", ":x", ":\uff18", ":-1", ":443:443", ":99999999"])
good_paths = st.sampled_from(["", "", "hc1", "hc1/", "HC1", "team/hc1", "Team", "hc1/sub"])
segments = st.sampled_from(
    ["hc1", "hc1", "hc1", "HC1", "hc10", "hc", "team", "Team", "sub", "", ".", "..", "%2e%2E",
    "%2E",
     "a%2fb", "a%2Fb", "a%5cb", "a\\b", "%00", "\0", "caf\u00e9", "caf%C3%A9", "%ff", "%fe", "%FF",
     "%EF%BF%BD", "\ufffd", "%zz", "%", "a b", "a%20b", "a+b", "\u212a", "h\u04411", "$hc", "hc%31",
     "%252e", "%25ff"]
)  # fmt: skip
odd_paths = st.lists(segments, max_size=3).map("/".join)
odd_ends = st.sampled_from(["/", "//", "?a=b", "?/../x", "#f", "#?x", "?\ufffd", "/?x=%2f", "\n"])
good_quotings: st.SearchStrategy[Quoting] = st.sampled_from(
    [
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%3A", "%3a"),
        lambda text: quote(text, safe="/:!*'()"),
    ]
)
odd_quotings: st.SearchStrategy[Quoting] = st.sampled_from(
    [
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: quote(text, safe=" ").replace(" ", "+"),
        lambda text: text.replace("&", ""),
        lambda text: "",
        lambda text: quote(text * 200, safe=""),
    ]
)
good_expiries = st.sampled_from([NOW + 1, NOW + 3_600, 253_402_300_799]).map(str)
odd_expiries = st.sampled_from(
    [NOW, NOW - 1, 0, 1, f"000{NOW + 9}", f"{NOW + 9}.0", "1e12", f"-{NOW}", f"+{NOW + 9}",
     f" {NOW + 9}", f"{NOW + 9} ", "1_767_999_999", "\uff11767999999", "", "9" * 400, "9" * 20,
     "9" * 21,
     "253402300800", "0x7fffffff", "never", "%37"]
).map(str)  # fmt: skip
good_names = st.sampled_from(["listener", "Root", "root", "both", "BOTH", "half", "sender"])
odd_names = st.sampled_from(
    [
        "nobody",
        "",
        "r" * 257,
        "%52%6F%6Ft",
        "Roo+t",
        "Root%00",
        "\u017fender",
        "%C5%BFender",
        " root",
    ]
)
good_signing: Signing = lambda key, sr, se: signature_of(key, Signed(sr, b"", se, ""))  # noqa: E731
odd_signings: st.SearchStrategy[Signing] = st.sampled_from(
    [
        lambda key, sr, se: good_signing(key, sr.lower() + "x", se),
        lambda key, sr, se: good_signing(key, sr, se).rstrip(b"="),
        lambda key, sr, se: good_signing(key, sr, se) + b"\n",
        lambda key, sr, se: good_signing(key, sr, se).swapcase(),
        lambda key, sr, se: good_signing(base64.b64encode(key.encode()).decode(), sr, se),
        lambda key, sr, se: base64.b64decode(good_signing(key, sr, se)).hex().encode(),
        lambda key, sr, se: b"",
    ]
)
IN_ORDER = ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1])
odd_orders = st.sampled_from([[0, 1, 2, 3, 0], [0, 1, 2, 2, 3], [0, 1, 2], [1, 2, 3], []])
odd_extras = st.sampled_from(["x=1", "SE=1", "sr=", "x", "&", "X=1&x=1", " sig =a", "=", "=&="])
odd_prefixes = st.sampled_from(
    ["sharedaccessSIGNATURE ", " SharedAccessSignature ", "Bearer ", "", "SharedAccessSignature\t",
     "SharedAccessSignature  ", "SharedAccessSignature\n"]
)  # fmt: skip
OF_NAME = {
    "root": ROOT, "both": (*BOTH, "own-1"), "listener": (NOT_BASE64, "k" * 100, "ten-1"),
    "half": HALF_EMPTY, "sender": ("team-1", "team-2"),
}  # fmt: skip
PARTS = (
    "scheme", "host", "port", "path", "end", "quoting", "expiry", "name", "key", "signing", "order",
    "extra", "prefix",
)  # fmt: skip


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Tokens that are right, but for up to two parts."""
    odd = draw(st.sets(st.sampled_from(PARTS), max_size=2))

    def part(name: str, good: st.SearchStrategy[T], bad: st.SearchStrategy[T]) -> T:
        return draw(bad if name in odd else good)

    scheme = part("scheme", st.sampled_from(["http", "https", "sb", "wss"]), odd_schemes)
    host = part("host", st.just(HOST), odd_hosts)
    port = part("port", st.just(""), odd_ports)
    path = part("path", good_paths, odd_paths)
    end = part("end", st.just(""), odd_ends)
    sr = part("quoting", good_quotings, odd_quotings)(f"{scheme}://{host}{port}/{path}{end}")
    name = part("name", good_names, odd_names)
    right_keys = OF_NAME.get(name.lower(), ("nobodys",))
    key = part("key", st.sampled_from(right_keys), st.sampled_from(KEYS))
    expiry = part("expiry", good_expiries, odd_expiries)
    sig = quote(part("signing", st.just(good_signing), odd_signings)(key, sr, expiry), safe="+")
    fields = [f"sr={sr}", f"sig={sig}", f"se={expiry}", f"skn={name}"]
    taken = [fields[at] for at in part("order", st.sampled_from(IN_ORDER), odd_orders)]
    extra = part("extra", st.just(""), odd_extras)
    prefix = part("prefix", st.just("SharedAccessSignature "), odd_prefixes)
    return prefix + "&".join(taken + ([extra] if extra else []))


paths = st.sampled_from(
    ["hc1", "hc1", "hc1", "HC1/", "hc1/sub", "hc1/a%2fb", "hc1/caf%C3%A9", "hc1/%ff", "hc1/%fe",
     "hc1/%EF%BF%BD", "hc1//sub", "hc1/a%20b", "hc1/a+b", "hc1/%5c", "hc1/%00", "hc10", "team/hc1",
     "Team/HC1/sub", "team%2Fhc1", "team", "nowhere", "nowhere/else", "hc%31", "hc1/%252e",
     "/hc1", ""]
)  # fmt: skip
