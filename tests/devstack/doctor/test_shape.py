"""What people paste in place of a connection string is told by its right name."""

from __future__ import annotations

import pytest

from devstack.doctor import shape
from devstack.doctor.case import Role
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Verdict
from tests.support.relay import HOST, KEY, SECOND_KEY

GOOD = f"Endpoint=sb://{HOST}/;SharedAccessKeyName=listenrule;SharedAccessKey={KEY};EntityPath=hc1"
NAMESPACE = GOOD.removesuffix(";EntityPath=hc1")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hc://contoso.biztalk.example/orders?a=b", Fault.BIZTALK_STRING),
        ("HC://contoso/orders", Fault.BIZTALK_STRING),
        (f'"hc://{HOST}/hc1"', Fault.BIZTALK_STRING),
        (
            f"Endpoint=sb://{HOST}/;SharedSecretIssuer=owner;SharedSecretValue={KEY}",
            Fault.BIZTALK_STRING,
        ),
        (f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY}", Fault.WRONG_SERVICE),
        (f"HostName=hub.azure-devices.net;SharedAccessKey={KEY}", Fault.WRONG_SERVICE),
        (f"AccountEndpoint=https://a.example:443/;AccountKey={KEY};", Fault.WRONG_SERVICE),
        ("Server=tcp:db1,1433;Initial Catalog=orders;Password=p", Fault.WRONG_SERVICE),
        ("postgresql://app:p@db.corp.local/orders", Fault.WRONG_SERVICE),
        (f'"{GOOD}"', Fault.QUOTED_STRING),
        (f"'{GOOD}'", Fault.QUOTED_STRING),
        (f"\u201c{GOOD}\u201d", Fault.QUOTED_STRING),
        (f'{GOOD}"', Fault.QUOTED_STRING),
        ("$ORDERS_LISTEN", Fault.PLACEHOLDER),
        ("<connection string>", Fault.PLACEHOLDER),
        (GOOD.replace(KEY, "SAS_KEY_VALUE"), Fault.PLACEHOLDER),
        (GOOD.replace(KEY, "<your key>"), Fault.PLACEHOLDER),
        (GOOD.replace(KEY, "KEY"), Fault.PLACEHOLDER),
        (GOOD.replace(KEY, "***"), Fault.PLACEHOLDER),
        (GOOD.replace(KEY, "..."), Fault.PLACEHOLDER),
        (GOOD.replace(HOST, "<namespace>.servicebus.windows.net"), Fault.PLACEHOLDER),
        (GOOD.replace("hc1", "{name}"), Fault.PLACEHOLDER),
        ("", Fault.TRUNCATED_STRING),
        (f"Endpoint=sb://{HOST}/", Fault.NO_ENTITY_PATH),
        (f"Endpoint=sb://{HOST}/;SharedAccessKeyName=listenrule", Fault.TRUNCATED_STRING),
        (f"Endpoint=sb://{HOST}/;SharedAccessKeyName=a;SharedAccessKey=", Fault.TRUNCATED_STRING),
        (NAMESPACE[:-10], Fault.TRUNCATED_STRING),
        (f"Endpoint=sb://{HOST}/;SharedAccessKeyNa", Fault.TRUNCATED_STRING),
        (f"dpoint=sb://{HOST}/;SharedAccessKeyName=a;SharedAccessKey=b", Fault.UNKNOWN_PROPERTY),
        (GOOD.partition(";")[2], Fault.TRUNCATED_STRING),
        (f"{GOOD};TransportType=Amqp", Fault.UNKNOWN_PROPERTY),
        (GOOD.replace("SharedAccessKey=", "SharedAccesKey="), Fault.UNKNOWN_PROPERTY),
        (NAMESPACE, Fault.NO_ENTITY_PATH),
        (GOOD.replace("sb://", "https://"), Fault.MALFORMED_STRING),
        (GOOD.replace(HOST, "a..b"), Fault.MALFORMED_STRING),
        (GOOD.replace(HOST, "a b"), Fault.MALFORMED_STRING),
        (GOOD.replace(HOST, ""), Fault.TRUNCATED_STRING),
        ("Endpoint=sb:", Fault.TRUNCATED_STRING),
        (KEY, Fault.MALFORMED_STRING),
        ("hello", Fault.MALFORMED_STRING),
        (f"{GOOD};EntityPath=hc2", Fault.MALFORMED_STRING),
    ],
)
def test_a_text_that_cannot_be_used_is_told_by_its_right_name(text: str, fault: Fault) -> None:
    finding, given = shape.read(text, None)

    assert (finding.fault, finding.verdict) == (fault, Verdict.FAIL), finding.what
    assert given is None
    assert finding.next_step
    assert KEY not in repr(finding)


def test_a_good_string_names_its_rule() -> None:
    finding, given = shape.read(f"  {GOOD}\n", Role.LISTENER)

    assert (finding.verdict, finding.what) == (Verdict.OK, "of rule 'listenrule'")
    assert given is not None
    assert given.path == "hc1"


@pytest.mark.parametrize("key", [KEY[:-1], KEY[:20], "a-key-of-our-own"])
def test_a_key_that_azure_would_not_make_is_remarked_on_and_used(key: str) -> None:
    finding, given = shape.read(GOOD.replace(KEY, key), None)

    assert (finding.verdict, finding.fault) == (Verdict.WARN, Fault.ODD_KEY)
    assert str(len(key)) in finding.what
    assert key not in repr(finding)
    assert given is not None


def test_a_listener_needs_a_key_and_a_sender_may_have_none() -> None:
    text = f"Endpoint=sb://{HOST}/;EntityPath=hc1"

    assert shape.read(text, Role.LISTENER)[0].fault is Fault.NO_KEY
    finding, given = shape.read(text, Role.SENDER)
    assert (finding.check, finding.verdict) == (Check.CONNECTION_STRING, Verdict.OK)
    assert given is not None


def test_a_key_in_the_place_of_the_rules_name_is_not_shown() -> None:
    finding, _ = shape.read(GOOD.replace("listenrule", SECOND_KEY), None)

    assert finding.what == "of rule *** (it looks like a key)"
