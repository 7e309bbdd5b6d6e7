"""Whether a connection string is the agent's, given to the client by mistake.

Its text cannot tell: what a rule grants is known to the relay only. So the rule's name raises the
suspicion, and the relay is asked without opening anything. Others are not asked: each question is a
refused handshake in the relay's log.
"""

from __future__ import annotations

import logging
import time

from app_client.settings import ClientSettings, Forward
from hybridge.protocol.connection_string import token_for
from hybridge.protocol.errors import RelayError
from hybridge.token_check import ask_relay

logger = logging.getLogger(__name__)

TOKEN_LIFETIME_SECONDS = 600

HINT = "take the connection string of defaultSender; the agent gets this one"


def is_suspect(forward: Forward) -> bool:
    """Whether the rule's name speaks of listening and not of sending, as ``defaultListener``."""
    rule = (forward.connection_string.key_name or "").lower()
    return "listen" in rule and "send" not in rule


async def may_send(forward: Forward, settings: ClientSettings) -> bool | None:
    """Ask the relay whether a connection string grants Send; None if it does not say.

    Raises:
        RelayError: The relay cannot be reached, or did not answer.
    """
    given = forward.connection_string
    token = token_for(given, expires_at=int(time.time()) + TOKEN_LIFETIME_SECONDS)
    if token is None:
        return None
    verdict = await ask_relay(
        token,
        host=given.host,
        port=given.port,
        path=forward.name,
        ca=settings.ca,
        connect_to=settings.connect_to,
        proxy=settings.proxy,
        timing=settings.timing,
    )
    return True if verdict.is_anonymous else verdict.may_send


def warn_of_name(forward: Forward) -> None:
    """Say what the name makes likely, before the relay is asked."""
    logger.warning(
        "its rule %r is the agent's by its name: app-client needs one that grants Send",
        forward.connection_string.key_name,
        extra={"event": "rule_of_an_agent", "hybrid_connection": forward.name, "hint": HINT},
    )


def tell(forward: Forward, answer: bool | RelayError | None) -> None:
    """Say what the relay answered to `may_send`, where it makes the suspicion a fact or void."""
    rule = forward.connection_string.key_name
    labels = {"hybrid_connection": forward.name}
    if answer is False:
        logger.error(
            "the relay says that the rule %r does not grant Send: no connection will pass",
            rule,
            extra={"event": "send_not_granted", **labels, "hint": HINT},
        )
    elif answer is True:
        logger.info(
            "the relay says that the rule %r grants Send",
            rule,
            extra={"event": "send_granted", **labels},
        )
    else:
        logger.debug("the relay has not said what the rule %r grants: %s", rule, answer)
