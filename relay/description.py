"""What the relay says of a hybrid connection, as Atom (section 9.1)."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree

from relay.namespace import HybridConnection

_ATOM = "http://www.w3.org/2005/Atom"
_CONNECT = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"

ENTRY_TYPE = "application/atom+xml;type=entry;charset=utf-8"
ERROR_TYPE = "application/xml; charset=utf-8"
FEED_TYPE = "application/atom+xml;type=feed;charset=utf-8"


def entry(
    connection: HybridConnection, *, namespace: str, host: str, api_version: str, listeners: int
) -> bytes:
    """Write the entry that answers the runtime-information GET (clause 124).

    .NET reads the elements of the description by their order; it stays as section 9.1 has it.
    """
    created, updated = _utc(connection.created_at), _utc(connection.updated_at)
    root = ElementTree.Element("entry", xmlns=_ATOM)
    _add(root, "id", f"https://{host}/{connection.name}?api-version={api_version}")
    _add(root, "title", connection.name, type="text")
    _add(root, "published", created)
    _add(root, "updated", updated)
    _add(ElementTree.SubElement(root, "author"), "name", namespace)
    content = ElementTree.SubElement(root, "content", type="application/xml")
    description = ElementTree.SubElement(content, "HybridConnectionDescription", xmlns=_CONNECT)
    _add(description, "CreatedAt", created)
    _add(description, "UpdatedAt", updated)
    requires = "true" if connection.requires_client_authorization else "false"
    _add(description, "RequiresClientAuthorization", requires)
    _add(description, "UserMetadata", connection.user_metadata)
    _add(description, "ListenerCount", str(listeners))
    return _written(root)


def feed(*, namespace: str, host: str, now: float) -> bytes:
    """Write the empty feed at a namespace's root, which says that it is there."""
    root = ElementTree.Element("feed", xmlns=_ATOM)
    _add(root, "id", f"https://{host}/")
    _add(root, "title", namespace, type="text")
    _add(root, "updated", _utc(now))
    return _written(root)


def error(status: int, detail: str) -> bytes:
    """Write the body of a management error."""
    root = ElementTree.Element("Error")
    _add(root, "Code", str(status))
    _add(root, "Detail", detail)
    return _written(root)


def _add(parent: ElementTree.Element, name: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(parent, name, attributes).text = text


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(root: ElementTree.Element) -> bytes:
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text
