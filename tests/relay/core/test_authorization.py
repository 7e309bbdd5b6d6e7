from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import sas
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import (
    AuthorizationFailed,
    ClaimMissing,
    ExpiredToken,
    InvalidAudience,
    InvalidSignature,
    MalformedToken,
    MissingToken,
)
from hybridge.protocol.secret import Secret
from relay.core.authorization import ANONYMOUS, Grant, authorize
from relay.core.tracking import phrase
from relay.namespace import AuthorizationRule, HybridConnection, Namespace
from tests.support.vectors import load_vectors, texts

NOW = 1_767_225_600
HOST = "ns1.example.test"
ROOT = f"http://{HOST}/"
HC1 = f"http://{HOST}/hc1/"
WORDS = texts(load_vectors("reason_phrases")["refused_tokens"])


def rule(name: str, claims: Claim, *, keys: str = "") -> AuthorizationRule:
    keys = keys or name
    return AuthorizationRule(
        name=name,
        claims=claims,
        primary_key=Secret(f"{keys}-primary"),
        secondary_key=Secret(f"{keys}-secondary"),
    )


def by_name(*rules: AuthorizationRule) -> dict[str, AuthorizationRule]:
    return {rule.name.lower(): rule for rule in rules}


ALL = Claim.parse(["Manage"])
OPEN = HybridConnection(name="open", requires_client_authorization=False)
ORDERS = HybridConnection(
    name="hc1",
    rules=by_name(
        rule("listenOnly", Claim.LISTEN),
        rule("sendOnly", Claim.SEND),
        rule("both", Claim.LISTEN, keys="entity"),
    ),
)
NAMESPACE = Namespace(
    name="ns1",
    hosts=("ns1.servicebus.windows.net", HOST),
    rules=by_name(rule("Root", ALL), rule("both", ALL, keys="namespace")),
    hybrid_connections={"hc1": ORDERS, "open": OPEN},
)


def token(
    key_name: str = "Root", *, key: str = "", resource: str = HC1, expires_at: int = NOW + 60
) -> str:
    key = key or f"{key_name}-primary"
    return sas.sign(resource, key_name=key_name, key=key, expires_at=expires_at)


def ask(
    text: str | None,
    claim: Claim = Claim.LISTEN,
    *,
    hybrid_connection: HybridConnection | None = ORDERS,
    path: tuple[str, ...] = ("hc1",),
    now: float = NOW,
    any_claim: bool = False,
) -> Grant:
    return authorize(
        NAMESPACE, hybrid_connection, text,
        claim=claim, path_segments=path, now=now, any_claim=any_claim,
    )  # fmt: skip


# --- What opens ----------------------------------------------------------------------------------


@pytest.mark.clause(20)
def test_a_valid_token_is_granted_until_it_expires() -> None:
    assert ask(token()) == Grant("Root", NOW + 60)


@pytest.mark.clause(25)
@pytest.mark.parametrize("resource", [ROOT, f"sb://{HOST}:8443", f"https://{HOST}:443/"])
def test_a_token_for_the_namespace_opens_every_hybrid_connection(resource: str) -> None:
    assert ask(token(resource=resource)).rule == "Root"
    assert ask(token(resource=resource), hybrid_connection=None, path=("x", "y")).rule == "Root"


@pytest.mark.clause(32)
@pytest.mark.parametrize("key", ["Root-primary", "Root-secondary"])
def test_both_keys_of_a_rule_open(key: str) -> None:
    assert ask(token(key=key)).rule == "Root"


@pytest.mark.clause(33)
def test_the_entitys_rule_comes_before_the_namespaces_of_the_same_name() -> None:
    own = token("both", key="entity-primary")
    inherited = token("both", key="namespace-secondary")

    # Only the namespace's rule may send, so this tells which of the two was used.
    assert ask(own, Claim.LISTEN).rule == "both"
    with pytest.raises(ClaimMissing):
        ask(own, Claim.SEND)
    assert ask(inherited, Claim.SEND).rule == "both"


@pytest.mark.clause(33)
def test_of_two_rules_with_the_same_name_and_keys_the_entitys_own_decides() -> None:
    own, inherited = rule("same", Claim.LISTEN), rule("same", ALL)
    entity = HybridConnection(name="hc1", rules=by_name(own))
    namespace = Namespace(name="ns1", hosts=(HOST,), rules=by_name(inherited))

    with pytest.raises(ClaimMissing):
        authorize(
            namespace, entity, token("same"), claim=Claim.SEND, path_segments=("hc1",), now=NOW
        )


@pytest.mark.clause(26, 27)
def test_a_listener_needs_a_token_for_the_entity_and_not_for_one_request_below_it() -> None:
    below = token(resource=f"{HC1}sub/")

    assert ask(below, Claim.SEND, path=("hc1", "sub")).rule == "Root"
    with pytest.raises(InvalidAudience):
        ask(below, Claim.LISTEN, path=("hc1", "sub"))


def test_rule_names_compare_without_case() -> None:
    assert ask(token("ROOT", key="Root-primary")).rule == "Root"


@pytest.mark.clause(35)
@pytest.mark.parametrize("claim", [Claim.LISTEN, Claim.SEND])
def test_a_manage_rule_may_listen_and_send(claim: Claim) -> None:
    assert ask(token(), claim).rule == "Root"


@pytest.mark.parametrize("key_name", ["listenOnly", "sendOnly"])
def test_any_claim_opens_where_any_is_enough(key_name: str) -> None:
    assert ask(token(key_name), Claim.MANAGE, any_claim=True).rule == key_name


def test_a_token_may_name_any_host_of_the_namespace() -> None:
    assert ask(token(resource="http://ns1.servicebus.windows.net/hc1/")).rule == "Root"


def test_a_valid_token_may_learn_that_there_is_no_such_entity() -> None:
    resource = f"http://{HOST}/nowhere/"

    grant = ask(token(resource=resource), hybrid_connection=None, path=("nowhere",))

    assert grant.rule == "Root"


# --- Anonymous senders ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "", "garbage", token("nobody", key="x")])
def test_a_sender_needs_no_token_where_none_is_asked_for(text: str | None) -> None:
    grant = ask(text, Claim.SEND, hybrid_connection=OPEN, path=("open",))

    assert grant == ANONYMOUS
    assert grant.is_anonymous


def test_a_listener_always_needs_a_token() -> None:
    with pytest.raises(MissingToken):
        ask(None, Claim.LISTEN, hybrid_connection=OPEN, path=("open",))


def test_runtime_information_always_needs_a_token() -> None:
    with pytest.raises(MissingToken):
        ask(None, Claim.SEND, hybrid_connection=OPEN, path=("open",), any_claim=True)


# --- What stays closed ---------------------------------------------------------------------------


@pytest.mark.clause(40)
@pytest.mark.parametrize("hybrid_connection", [ORDERS, None])
@pytest.mark.parametrize("text", [None, ""])
def test_no_token_is_refused_with_401_whether_the_entity_exists_or_not(
    text: str | None, hybrid_connection: HybridConnection | None
) -> None:
    with pytest.raises(MissingToken) as refused:
        ask(text, hybrid_connection=hybrid_connection)

    assert refused.value.status == 401
    assert str(refused.value) == WORDS["MissingToken"]


@pytest.mark.clause(40)
def test_an_entity_rule_of_an_entity_that_does_not_exist_opens_nothing() -> None:
    with pytest.raises(InvalidSignature):
        ask(token("listenOnly"), hybrid_connection=None)


@pytest.mark.clause(30)
@pytest.mark.parametrize(
    "text", [token(key="wrong"), token("nobody"), token("nobody", key="no key"), token(key="Root")]
)
def test_a_wrong_signature_is_refused_with_401(text: str) -> None:
    with pytest.raises(InvalidSignature) as refused:
        ask(text)
    reason = phrase(str(refused.value), tracking_id="x", host=HOST, path="hc1", now=NOW)

    assert refused.value.status == 401
    assert reason.startswith(WORDS["InvalidSignature"])
    assert "token has an invalid signature" in reason
    assert "/hc1," in reason


@pytest.mark.clause(27, 28, 29)
@pytest.mark.parametrize(
    "resource",
    [f"http://{HOST}/hc2/", f"http://{HOST}/hc10/", f"http://{HOST}/hc/", "http://ns2.example.test/hc1/",
     f"http://{HOST}/hc1/sub/", f"http://{HOST}/hc1/../hc1", f"http://{HOST}//hc1//x"],
)  # fmt: skip
def test_a_token_for_something_else_is_refused_with_401(resource: str) -> None:
    with pytest.raises(InvalidAudience) as refused:
        ask(token(resource=resource))

    assert refused.value.status == 401
    assert str(refused.value) == WORDS["InvalidAudience"]


@pytest.mark.clause(31)
@pytest.mark.parametrize("now", [NOW, NOW + 0.5, NOW + 3_600])
def test_an_expired_token_is_refused_with_401_at_its_very_second(now: float) -> None:
    text = token(expires_at=NOW)

    assert ask(text, now=NOW - 0.001).expires_at == NOW
    with pytest.raises(ExpiredToken) as refused:
        ask(text, now=now)
    assert refused.value.status == 401
    assert str(refused.value) == WORDS["ExpiredToken"]


@pytest.mark.parametrize("text", ["Bearer abc", "Token@1a2b3c", " "])
def test_what_is_no_token_is_refused_with_401(text: str) -> None:
    with pytest.raises(MalformedToken) as refused:
        ask(text)

    assert refused.value.status == 401
    assert str(refused.value) == WORDS["MalformedToken"]


@pytest.mark.clause(34)
@pytest.mark.parametrize(
    ("key_name", "claim"), [("sendOnly", Claim.LISTEN), ("listenOnly", Claim.SEND)]
)
def test_a_rule_without_the_claim_is_refused_with_401(key_name: str, claim: Claim) -> None:
    with pytest.raises(ClaimMissing) as refused:
        ask(token(key_name), claim)

    assert refused.value.status == 401
    assert str(refused.value) == WORDS[f"ClaimMissing {claim}"]


def test_an_expired_token_of_another_key_says_nothing_of_its_expiry() -> None:
    with pytest.raises(InvalidSignature):
        ask(token(key="wrong", expires_at=1))


@given(
    key_name=st.sampled_from(["Root", "listenOnly", "sendOnly", "both", "nobody"]),
    key=st.sampled_from(["Root-primary", "sendOnly-secondary", "entity-primary", "wrong"]),
    resource=st.text("/.%2fhc1:@?#\\\0").map(f"http://{HOST}".__add__),
    expires_at=st.integers(NOW - 5, NOW + 5),
    claim=st.sampled_from([Claim.LISTEN, Claim.SEND]),
)
def test_any_signed_token_is_granted_or_refused_with_401(
    key_name: str, key: str, resource: str, expires_at: int, claim: Claim
) -> None:
    text = token(key_name, key=key, resource=resource, expires_at=expires_at)
    try:
        grant = ask(text, claim)
    except AuthorizationFailed as error:
        refused = error
    else:
        assert grant.expires_at > NOW
        assert key_name != "nobody"
        assert key != "wrong"
        return
    assert refused.status == 401
    assert key not in str(refused)
    assert resource not in str(refused)


@given(st.text())
def test_hostile_text_is_refused_with_401(text: str) -> None:
    with pytest.raises(AuthorizationFailed):
        ask(text)
