"""Which proxy, if any, stands between us and an address."""

from __future__ import annotations

import ipaddress
import urllib.request

from hybridge.protocol.proxies import NO_PROXY, Proxy, ProxyChoice, parse_proxy


class ProxyRoute:
    """Decides for each address.

    A proxy that was named is used for every address. Else the environment decides, as it does for
    most programs: ``HTTPS_PROXY``, else ``ALL_PROXY``, and ``NO_PROXY`` with the names that need
    none (lower case wins). Loopback addresses never need one.

    Args:
        choice: A `Proxy`, an address to parse, ``"none"`` for no proxy, or None: the environment's.

    Raises:
        InvalidSetting: It is no address of a proxy.
    """

    def __init__(self, choice: Proxy | str | None) -> None:
        self._choice: ProxyChoice = parse_proxy(choice) if isinstance(choice, str) else choice
        self._environment = urllib.request.getproxies_environment() if choice is None else {}

    def proxy_for(self, meant: tuple[str, int], peer: tuple[str, int]) -> Proxy | None:
        """Give the proxy for an address, or None to dial it directly.

        Args:
            meant: Host and port of the address; ``NO_PROXY`` may name them.
            peer: What is dialled in their place, or the same; ``NO_PROXY`` may name it too.

        Raises:
            InvalidSetting: The environment's proxy is needed, and its address cannot be used.
        """
        if isinstance(self._choice, Proxy):
            return self._choice
        if self._choice == NO_PROXY or _is_loopback(peer[0]):
            return None
        for name in ("https", "all"):
            text = self._environment.get(name)
            if text:
                if self._needs_none(*meant) or self._needs_none(*peer):
                    return None
                found = parse_proxy(text, setting=f"{name.upper()}_PROXY")
                return found if isinstance(found, Proxy) else None
        return None

    def _needs_none(self, host: str, port: int) -> bool:
        # Entries may have a port; the standard library cannot tell it from an IPv6 address.
        if ":" in host:
            entries = {each.strip().lower() for each in self._environment.get("no", "").split(",")}
            if not entries.isdisjoint({f"[{host}]", f"[{host}]:{port}"}):
                return True
        text = host if ":" in host else f"{host}:{port}"
        bypass = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined] # typeshed's gap
        return bool(bypass(text, self._environment))


def _is_loopback(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
