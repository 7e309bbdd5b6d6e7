"""Azure's names for what its diagnostic log tells of a hybrid connection, and how loud each is.

The names are those of "Enable diagnostics logs for Azure Relay Hybrid Connections", category
``HybridConnectionsEvent``. When exactly the service logs each is not documented beyond a sentence;
the docstrings here say when we do.
"""

from __future__ import annotations

import enum
import logging
from typing import Self


class Operation(enum.Enum):
    """What happened. The value is Azure's name, and the ``event`` of a log line."""

    level: int
    """Of `logging`: INFO for the begin and the end of a connection, WARNING for what a person may
    want to look at, DEBUG for the rest."""

    def __new__(cls, name: str, level: int) -> Self:
        member = object.__new__(cls)
        member._value_ = name
        member.level = level
        return member

    # --- authorization ------------------------------------------------------------------------

    AUTHORIZATION_FAILED = "AuthorizationFailed", logging.WARNING
    """There is no token, or a valid one of a rule that does not grant the claim."""

    INVALID_SAS_TOKEN = "InvalidSasToken", logging.WARNING
    """A token is malformed, wrongly signed, for something else or expired: in a request, or in a
    ``renewToken``."""

    # --- listeners ----------------------------------------------------------------------------

    NEW_LISTENER_REGISTERED = "NewListenerRegistered", logging.INFO
    """A control channel is open."""

    LISTENER_UNREGISTERED = "ListenerUnregistered", logging.INFO
    """A control channel has ended; the message says why."""

    LISTENER_CLOSING_FROM_EXPIRED_TOKEN = "ListenerClosingFromExpiredToken", logging.WARNING
    """A control channel is closed, since no new token came within the grace."""

    LISTENER_UNRESPONSIVE = "ListenerUnresponsive", logging.WARNING
    """A listener does not answer pings, or does not read its control channel."""

    # --- senders ------------------------------------------------------------------------------

    NEW_SENDER_REGISTERING = "NewSenderRegistering", logging.DEBUG
    """A sender's token has been checked; a listener is looked for."""

    MESSAGE_SENDING_TO_LISTENER = "MessageSendingToListener", logging.DEBUG
    """An ``accept`` or ``request`` is about to go to a listener."""

    MESSAGE_SENT_TO_LISTENER = "MessageSentToListener", logging.DEBUG
    """It has gone; the line names the listener."""

    LISTENER_ACCEPTING_CONNECTION = "ListenerAcceptingConnection", logging.DEBUG
    """A listener has opened the rendezvous address of a connection or of a request."""

    LISTENER_ACCEPTING_CONNECTION_TIMEOUT = "ListenerAcceptingConnectionTimeout", logging.WARNING
    """No listener opened the rendezvous address in time; the sender is answered 404."""

    LISTENER_REJECTED_CONNECTION = "ListenerRejectedConnection", logging.INFO
    """A listener refused the sender, with the status of the line."""

    SENDER_LISTENER_CONNECTION_ESTABLISHED = "SenderListenerConnectionEstablished", logging.INFO
    """A sender and a listener are joined."""

    SENDER_CONNECTION_CLOSED = "SenderConnectionClosed", logging.INFO
    """A joined connection has ended, or a sender left before it was joined."""

    # --- relayed HTTP -------------------------------------------------------------------------

    SENDER_SENT_HTTP_REQUEST = "SenderSentHttpRequest", logging.DEBUG
    """A sender's HTTP request has been let in; a listener is looked for."""

    LISTENER_RETURNING_HTTP_RESPONSE = "ListenerReturningHttpResponse", logging.DEBUG
    """The head of a listener's response has come."""

    LISTENER_RETURNING_HTTP_RESPONSE_FAILED = "ListenerReturningHttpResponseFailed", logging.WARNING
    """A listener's response broke off after its head had gone to the sender."""

    LISTENER_SENT_HTTP_RESPONSE = "ListenerSentHttpResponse", logging.INFO
    """A listener's response is complete; the line of a request at INFO."""

    LISTENER_ACCEPTING_HTTP_REQUEST_FAILED = "ListenerAcceptingHttpRequestFailed", logging.WARNING
    """A listener was lost, or answered what cannot be passed on; the sender is answered 502."""

    LISTENER_ACCEPTING_REQUEST_TIMEOUT = "ListenerAcceptingRequestTimeout", logging.WARNING
    """A listener did not answer a request in time; the sender is answered 504."""

    # --- the rest -----------------------------------------------------------------------------

    PROCESSING_REQUEST_FAILED = "ProcessingRequestFailed", logging.WARNING
    """Whatever else a request is refused for: no such hybrid connection, no listener, a quota, a
    request that is none."""
