"""What to try next after the relay refused a token, read from its reason phrase (section 4.2)."""

from __future__ import annotations


def authorization_hint(reason: str, *, claim: str = "") -> str:
    """Give the next step after a 401.

    Args:
        reason: The reason phrase, from our relay or from Azure.
        claim: What the action needs, ``Listen`` or ``Send``, where the caller knows it.
    """
    said = reason.lower()
    if "expired" in said:
        return "set this machine's clock, or take a new token"
    if "signature" in said:
        return "copy the connection string again: the key or EntityPath is not the rule's"
    if "audience" in said:
        return "check Endpoint and EntityPath: the token is for another address"
    if "missingtoken" in said or "no authorization" in said:
        return "use a connection string with SharedAccessKeyName and SharedAccessKey"
    needed = f" that grants {claim}" if claim else ""
    return f"use a connection string of a rule{needed}, with its own key"
