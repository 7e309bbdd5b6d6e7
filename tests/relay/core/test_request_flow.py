"""One relayed HTTP request, without sockets and clocks (section 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.messages import Response
from relay.core.request_events import (
    AbortRendezvous,
    AbortSender,
    AcceptListener,
    Action,
    Channel,
    CloseRendezvous,
    ControlChannelLost,
    DismissListener,
    EndResponse,
    Event,
    LeaveRendezvous,
    ListenerCame,
    ListenerClosed,
    ListenerViolated,
    RefuseSender,
    RendezvousBroken,
    RequestComplete,
    ResponseBody,
    ResponseEnded,
    ResponseStarted,
    ResponseUnusable,
    SendBody,
    SenderBroke,
    SenderLeft,
    StartResponse,
    TimePassed,
)
from relay.core.request_flow import (
    LISTENER_GONE,
    MAX_INLINE_BODY_BYTES,
    NO_RESPONSE,
    Awaited,
    Form,
    RequestFlow,
    State,
    may_go_inline,
)

CONTROL, RENDEZVOUS = Channel.CONTROL, Channel.RENDEZVOUS
WITH_BODY = Response(request_id="r", status_code=200, body=True)
WITHOUT_BODY = Response(request_id="r", status_code=204)
NORMAL = CloseRendezvous(1000, "NormalClosure")


def flow_after(form: Form, *events: Event) -> RequestFlow:
    flow = RequestFlow(form)
    for event in events:
        flow.handle(event)
    return flow


@pytest.mark.clause(92, 93, 94)
@pytest.mark.parametrize(
    ("length", "is_inline"),
    [(0, True), (MAX_INLINE_BODY_BYTES, True), (MAX_INLINE_BODY_BYTES + 1, False), (None, False)],
)
def test_a_body_of_64_kib_may_go_inline_and_no_larger_or_chunked_one(
    length: int | None, is_inline: bool
) -> None:
    assert may_go_inline(length) is is_inline


# --- The response --------------------------------------------------------------------------------


@pytest.mark.clause(99)
@pytest.mark.parametrize("channel", [CONTROL, RENDEZVOUS])
def test_a_response_without_body_is_the_whole_answer(channel: Channel) -> None:
    flow = RequestFlow(Form.CONTROL_CHANNEL)

    actions = flow.handle(ResponseStarted(channel, WITHOUT_BODY))

    assert actions == [StartResponse(WITHOUT_BODY), EndResponse()]
    assert flow.state is State.ENDED


@pytest.mark.clause(99, 103)
def test_on_the_control_channel_the_head_waits_for_the_first_of_its_body() -> None:
    flow = RequestFlow(Form.CONTROL_CHANNEL)

    assert flow.handle(ResponseStarted(CONTROL, WITH_BODY)) == []
    assert flow.handle(ResponseBody(CONTROL, b"a")) == [StartResponse(WITH_BODY), SendBody(b"a")]
    assert flow.handle(ResponseBody(CONTROL, b"b")) == [SendBody(b"b")]
    assert flow.handle(ResponseEnded(CONTROL)) == [EndResponse()]


@pytest.mark.clause(103)
def test_an_empty_body_is_an_empty_response() -> None:
    flow = flow_after(Form.CONTROL_CHANNEL, ResponseStarted(CONTROL, WITH_BODY))

    assert flow.handle(ResponseEnded(CONTROL)) == [StartResponse(WITH_BODY), EndResponse()]


@pytest.mark.clause(100)
def test_by_rendezvous_the_head_goes_out_at_once_and_the_socket_is_closed_at_the_end() -> None:
    flow = RequestFlow(Form.CONTROL_CHANNEL)

    assert flow.handle(ListenerCame()) == [AcceptListener(sends_request=False)]
    assert flow.handle(ResponseStarted(RENDEZVOUS, WITH_BODY)) == [StartResponse(WITH_BODY)]
    assert flow.handle(ResponseEnded(RENDEZVOUS)) == [EndResponse(), NORMAL]


@pytest.mark.clause(101)
def test_a_clean_close_ends_the_body_and_another_breaks_it() -> None:
    begun = (ListenerCame(), ResponseStarted(RENDEZVOUS, WITH_BODY))
    ends = flow_after(Form.CONTROL_CHANNEL, *begun)
    breaks = flow_after(Form.CONTROL_CHANNEL, *begun)

    assert ends.handle(ListenerClosed(is_clean=True)) == [EndResponse(), NORMAL]
    assert breaks.handle(ListenerClosed(is_clean=False)) == [AbortSender(LISTENER_GONE), NORMAL]


def test_what_comes_on_the_other_channel_than_the_response_is_ignored() -> None:
    flow = flow_after(Form.CONTROL_CHANNEL, ListenerCame(), ResponseStarted(CONTROL, WITH_BODY))

    assert flow.handle(ResponseStarted(RENDEZVOUS, WITHOUT_BODY)) == []
    assert flow.handle(ResponseBody(RENDEZVOUS, b"x")) == []
    assert flow.handle(RendezvousBroken()) == []
    assert flow.handle(ResponseEnded(CONTROL)) == [StartResponse(WITH_BODY), EndResponse()]


# --- The rendezvous ------------------------------------------------------------------------------


@pytest.mark.clause(71, 93)
def test_the_listener_gets_a_request_by_rendezvous_once() -> None:
    flow = RequestFlow(Form.RENDEZVOUS)

    assert flow.handle(ListenerCame()) == [AcceptListener(sends_request=True)]
    assert flow.handle(ListenerCame()) == [DismissListener()]


def test_after_the_end_a_listener_is_dismissed() -> None:
    flow = flow_after(Form.CONTROL_CHANNEL, SenderLeft())

    assert flow.handle(ListenerCame()) == [DismissListener()]


def test_a_response_before_the_request_is_complete_leaves_the_socket_without_a_close() -> None:
    flow = flow_after(Form.RENDEZVOUS, ListenerCame())

    actions = flow.handle(ResponseStarted(RENDEZVOUS, WITHOUT_BODY))

    assert actions == [StartResponse(WITHOUT_BODY), EndResponse(), LeaveRendezvous()]


@pytest.mark.parametrize(
    ("events", "end"), [([], AbortRendezvous()), ([RequestComplete()], NORMAL)]
)
def test_a_sender_that_leaves_breaks_a_request_that_is_not_complete(
    events: list[Event], end: Action
) -> None:
    flow = flow_after(Form.RENDEZVOUS, ListenerCame(), *events)

    assert flow.handle(SenderLeft()) == [end]


def test_a_body_that_cannot_be_read_is_the_senders_error_and_no_complete_body() -> None:
    flow = flow_after(Form.RENDEZVOUS, ListenerCame())

    actions = flow.handle(SenderBroke(400, "No chunk."))

    assert actions == [RefuseSender(400, "No chunk."), AbortRendezvous()]


# --- A listener that fails -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        ListenerViolated("It is not text."),
        ListenerClosed(is_clean=True),
        RendezvousBroken(),
        ResponseUnusable(RENDEZVOUS, "No."),
    ],
)
def test_a_failing_listener_is_502_before_the_head_and_an_abort_after_it(failure: Event) -> None:
    early = flow_after(Form.CONTROL_CHANNEL, ListenerCame())
    late = flow_after(Form.CONTROL_CHANNEL, ListenerCame(), ResponseStarted(RENDEZVOUS, WITH_BODY))

    refusal = early.handle(failure)[0]

    assert isinstance(refusal, RefuseSender)
    assert refusal.status == 502
    if failure != ListenerClosed(is_clean=True):
        assert isinstance(late.handle(failure)[0], AbortSender)


def test_a_violation_is_told_to_the_listener() -> None:
    flow = flow_after(Form.CONTROL_CHANNEL, ListenerCame())

    assert flow.handle(ListenerViolated("No.", 1009))[1] == CloseRendezvous(1009, "No.")


def test_a_lost_control_channel_fails_only_what_must_come_by_it() -> None:
    body_due = flow_after(Form.CONTROL_CHANNEL, ResponseStarted(CONTROL, WITH_BODY))
    waiting = flow_after(Form.CONTROL_CHANNEL)
    visited = flow_after(Form.CONTROL_CHANNEL, ListenerCame())

    assert body_due.handle(ControlChannelLost()) == [RefuseSender(502, LISTENER_GONE)]
    assert waiting.handle(ControlChannelLost()) == []
    assert waiting.awaits is Awaited.RETURN
    assert waiting.handle(TimePassed()) == [RefuseSender(502, LISTENER_GONE)]
    assert visited.handle(ControlChannelLost()) == []
    assert visited.awaits is Awaited.RESPONSE


# --- Time ----------------------------------------------------------------------------------------


@pytest.mark.clause(113)
@pytest.mark.parametrize("form", Form)
def test_no_answer_in_time_is_504(form: Form) -> None:
    assert RequestFlow(form).handle(TimePassed()) == [RefuseSender(504, NO_RESPONSE)]


@pytest.mark.clause(113)
@pytest.mark.parametrize(
    ("form", "events", "awaited"),
    [
        (Form.CONTROL_CHANNEL, [], Awaited.RESPONSE),
        (Form.RENDEZVOUS, [], Awaited.VISIT),
        (Form.RENDEZVOUS, [ListenerCame()], Awaited.REQUEST_BODY),
        (Form.RENDEZVOUS, [ListenerCame(), RequestComplete()], Awaited.RESPONSE),
        (Form.CONTROL_CHANNEL, [ResponseStarted(CONTROL, WITH_BODY)], Awaited.RESPONSE_BODY),
    ],
)
def test_what_is_awaited_decides_the_time_limit(
    form: Form, events: list[Event], awaited: Awaited
) -> None:
    assert flow_after(form, *events).awaits is awaited


@pytest.mark.clause(113)
def test_a_body_that_stops_is_504_while_the_head_is_held_and_an_abort_after_it() -> None:
    held = flow_after(Form.CONTROL_CHANNEL, ResponseStarted(CONTROL, WITH_BODY))
    sent = flow_after(
        Form.CONTROL_CHANNEL, ResponseStarted(CONTROL, WITH_BODY), ResponseBody(CONTROL, b"x")
    )

    refusal = held.handle(TimePassed())[0]

    assert isinstance(refusal, RefuseSender)
    assert (refusal.status, refusal.message.startswith(NO_RESPONSE)) == (504, True)
    assert isinstance(sent.handle(TimePassed())[0], AbortSender)


# --- Whatever happens ----------------------------------------------------------------------------

_EVENTS: list[Event] = [
    ListenerCame(),
    ListenerViolated("No."),
    ListenerClosed(is_clean=True),
    ListenerClosed(is_clean=False),
    RendezvousBroken(),
    ControlChannelLost(),
    RequestComplete(),
    SenderBroke(400, "No."),
    SenderLeft(),
    TimePassed(),
    *(
        event
        for channel in Channel
        for event in (
            ResponseStarted(channel, WITH_BODY),
            ResponseStarted(channel, WITHOUT_BODY),
            ResponseBody(channel, b"x"),
            ResponseEnded(channel),
            ResponseUnusable(channel, "No."),
        )
    ),
]


@given(st.sampled_from(Form), st.lists(st.sampled_from(_EVENTS), max_size=14))
def test_whatever_happens_a_sender_gets_at_most_one_head_and_one_end(
    form: Form, history: list[Event]
) -> None:
    flow = RequestFlow(form)
    actions = [action for event in history for action in flow.handle(event)]

    to_sender = [
        type(action)
        for action in actions
        if isinstance(action, StartResponse | SendBody | EndResponse | RefuseSender | AbortSender)
    ]
    heads = to_sender.count(StartResponse) + to_sender.count(RefuseSender)
    ends = sum(to_sender.count(kind) for kind in (EndResponse, RefuseSender, AbortSender))
    assert heads <= 1
    assert ends <= 1
    if to_sender:
        assert to_sender[0] in (StartResponse, RefuseSender)
        assert not {EndResponse, RefuseSender, AbortSender} & set(to_sender[:-1])


@given(st.sampled_from(Form), st.lists(st.sampled_from(_EVENTS), max_size=14))
def test_whatever_happens_a_rendezvous_that_was_opened_is_let_go_once(
    form: Form, history: list[Event]
) -> None:
    flow = RequestFlow(form)
    actions = [action for event in [*history, SenderLeft()] for action in flow.handle(event)]

    accepted = sum(isinstance(action, AcceptListener) for action in actions)
    ends = CloseRendezvous | LeaveRendezvous | AbortRendezvous
    let_go = sum(isinstance(action, ends) for action in actions)
    assert accepted <= 1
    # A socket that broke by itself needs no end of ours.
    assert let_go == accepted or (let_go == 0 and RendezvousBroken() in history)
    assert flow.state is State.ENDED
