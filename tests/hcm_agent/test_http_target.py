from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcm_agent.http_target import (
    HttpTarget,
    is_http_target,
    parse_http_target,
    sender_headers,
    target_headers,
    target_path,
)
from hybridge.protocol.errors import InvalidSetting, MalformedAddress

TARGET = HttpTarget(scheme="http", host="web.corp.local", port=8080)


@pytest.mark.parametrize(
    ("text", "shown", "authority"),
    [
        ("http://web.corp.local:8080", "http://web.corp.local:8080", "web.corp.local:8080"),
        ("http://web/", "http://web:80", "web"),
        ("https://web/base/", "https://web:443/base", "web"),
        ("HTTPS://web:80/a%20b", "https://web:80/a%20b", "web:80"),
        ("http://[::1]:9000/x", "http://[::1]:9000/x", "[::1]:9000"),
        ("http://[::1]", "http://[::1]:80", "[::1]"),
    ],
)
def test_a_target_is_read_from_a_url(text: str, shown: str, authority: str) -> None:
    assert is_http_target(text)
    target = parse_http_target(text, setting="--target")
    assert (str(target), target.authority) == (shown, authority)


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http://:80",
        "http://web:",
        "http://web:0",
        "http://web:99999",
        "http://web:x",
        "http://web/?x",
        "http://web/#x",
        "http://web/a b",
        "http://web/../x",
        "http://web/%2E%2e/x",
        "http://we b/",
        "http://[::1",
        "http://[zz]:1",
        "http://me:hunter2@web/",
    ],
)
def test_what_is_no_url_of_a_service_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidSetting, match="--target") as caught:
        parse_http_target(text, setting="--target")
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["web:80", "httpd:80", "udp://web:80", ""])
def test_other_targets_are_none_of_http(text: str) -> None:
    assert not is_http_target(text)


@pytest.mark.parametrize(
    ("base", "request_target", "path"),
    [
        ("", "/hc1", "/"),
        ("", "/HC1/", "/"),
        ("", "/hc1?x", "/?x"),
        ("", "/hc1/a b/ü?q=%20&r=a b", "/a%20b/%C3%BC?q=%20&r=a%20b"),
        ("", "/hc1/50%25%3Fx", "/50%25%3Fx"),
        ("", "/hc1/50% off", "/50%25%20off"),
        ("/base", "/hc1/x", "/base/x"),
        ("/base", "/hc1", "/base/"),
        ("", "/hc1/a//b/...", "/a//b/..."),
    ],
)
def test_the_name_of_the_hybrid_connection_stays_behind(
    base: str, request_target: str, path: str
) -> None:
    target = HttpTarget(scheme="http", host="web", port=80, path=base)
    assert target_path(target, "hc1", request_target) == path


@pytest.mark.parametrize(
    "request_target",
    ["/hc1/../x", "/hc1/a/./b", "/hc1/..", "/hc1/%2e./x", "/hc1/a\\..\\b", "/hc12", "/other", ""],
)
def test_what_could_lead_elsewhere_is_refused(request_target: str) -> None:
    with pytest.raises(MalformedAddress):
        target_path(TARGET, "hc1", request_target)


@settings(max_examples=50)
@given(st.text())
def test_whatever_is_asked_for_makes_one_line_below_the_base_or_an_error(rest: str) -> None:
    target = HttpTarget(scheme="http", host="web", port=80, path="/base")
    try:
        path = target_path(target, "hc1", f"/hc1/{rest}")
    except (MalformedAddress, UnicodeEncodeError):
        return
    assert path.startswith("/base/")
    assert path.isascii()
    assert path.isprintable()
    assert " " not in path


def test_headers_of_one_hop_stay_behind_and_an_own_authorization_passes() -> None:
    headers = {
        "Host": "ns1.servicebus.windows.net",
        "Authorization": "Basic abc",
        "X-Odd~": " {`|} ",
        "Expect": "100-continue",
        "Connection": "keep-alive, X-Hop",
        "x-hop": "1",
        "Via": "1.1 ns1",
    }

    found = target_headers(TARGET, headers, method="POST", body_bytes=0)

    assert found == [
        (b"Host", b"web.corp.local:8080"),
        (b"Authorization", b"Basic abc"),
        (b"X-Odd~", b"{`|}"),
        (b"Via", b"1.1 ns1"),
        (b"Content-Length", b"0"),
        (b"Connection", b"close"),
    ]


@pytest.mark.parametrize(
    ("method", "body_bytes", "framing"),
    [
        ("GET", 0, None),
        ("PUT", 0, (b"Content-Length", b"0")),
        ("GET", 5, (b"Content-Length", b"5")),
        ("GET", None, (b"Transfer-Encoding", b"chunked")),
    ],
)
def test_the_body_is_framed_as_its_length_is_known(
    method: str, body_bytes: int | None, framing: tuple[bytes, bytes] | None
) -> None:
    found = target_headers(TARGET, {}, method=method, body_bytes=body_bytes)
    assert found[1:-1] == ([framing] if framing else [])


def test_the_targets_headers_reach_the_sender_but_those_of_one_hop() -> None:
    found = sender_headers(
        [
            (b"Set-Cookie", b"a=1"),
            (b"Set-Cookie", b"b=\xff"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Connection", b"close, x-hop"),
            (b"X-Hop", b"1"),
            (b"Content-Encoding", b"gzip"),
        ]
    )
    assert found == [("Set-Cookie", "a=1"), ("Set-Cookie", "b=ÿ"), ("Content-Encoding", "gzip")]
