from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.close_codes import reason_bytes
from relay.core.tracking import error_body, new_tracking_id, phrase
from tests.support.vectors import load_vectors, rows, texts

VECTORS = load_vectors("reason_phrases")
GUID = "7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11"
NOW = 1_767_225_600.9


@pytest.mark.clause(62)
@pytest.mark.parametrize("client_id", [GUID, GUID.upper(), f"{GUID}_G3", f"{GUID}_G3_G41"])
def test_a_guid_that_came_along_is_kept(client_id: str) -> None:
    assert new_tracking_id(client_id, 5) == f"{client_id}_G5"


@pytest.mark.clause(62)
@pytest.mark.parametrize(
    "client_id",
    [None, "", "mine", GUID[:-1], f"{GUID}x", f"{{{GUID}}}", GUID.replace("-", ""), f"{GUID}_H1",
     f"{GUID}\r\nX: y", f"{GUID}_G", f"{GUID}" + "_G1" * 99],
)  # fmt: skip
def test_anything_else_is_replaced_by_a_guid(client_id: str | None) -> None:
    made = new_tracking_id(client_id, 5)

    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_G5", made)
    assert made != new_tracking_id(client_id, 5)


@pytest.mark.clause(45)
@pytest.mark.parametrize("row", rows(VECTORS["rows"]))
def test_reason_phrases_have_azures_form(row: dict[str, object]) -> None:
    assert row["phrase"] == phrase(
        str(row["message"]),
        tracking_id=str(VECTORS["tracking_id"]),
        host=str(VECTORS["host"]),
        path=str(VECTORS["path"]),
        now=NOW,
        http=bool(row["http"]),
    )


@pytest.mark.parametrize(
    "message", ["InvalidSignature: The token has an invalid signature.", "Endpoint does not exist."]
)
@pytest.mark.parametrize("path", ["team/hc1", "x" * 260])
def test_a_reason_phrase_has_the_entity_path_and_a_tracking_id(message: str, path: str) -> None:
    text = phrase(message, tracking_id=f"{GUID}_G1", host="ns1.example.test", path=path, now=NOW)

    assert message in text
    assert path in text
    assert f"TrackingId:{GUID}_G1," in text


@given(message=st.text(), path=st.text(), host=st.text(), tracking_id=st.text())
def test_a_reason_phrase_is_one_line_whatever_it_holds(
    message: str, path: str, host: str, tracking_id: str
) -> None:
    text = phrase(message, tracking_id=tracking_id, host=host, path=path, now=NOW)

    assert not re.search(r"[\x00-\x1f\x7f]", text)
    text.encode("utf-8")


def test_a_long_path_is_cut() -> None:
    text = phrase("No.", tracking_id=GUID, host="h", path="x" * 8_000, now=NOW)

    assert len(text) < 500


def test_a_close_reason_keeps_the_message_and_the_tracking_id() -> None:
    text = phrase("The token expired.", tracking_id=f"{GUID}_G1", host="h", path="hc1", now=NOW)

    assert f"The token expired. TrackingId:{GUID}_G1".encode() in reason_bytes(text)


@pytest.mark.clause(115)
@pytest.mark.parametrize(("status", "code"), texts(VECTORS["error_codes"]).items())
def test_errors_of_the_service_name_their_code(status: str, code: str) -> None:
    body = json.loads(error_body(int(status), "The reason."))

    assert body == {"error": {"code": code, "message": "The reason."}}


def test_statuses_without_a_code_of_their_own_get_the_general_one() -> None:
    assert json.loads(error_body(418, "x"))["error"]["code"] == "BadRequest"
    assert json.loads(error_body(599, "x"))["error"]["code"] == "InternalServerError"
