"""All that the doctor can find, by name. The table in docs/doctor.md is this one."""

from __future__ import annotations

import enum

from devstack.doctor.finding import Check


class Fault(enum.Enum):
    """One thing that can be wrong: the check that finds it, what it means, what to do."""

    # --- connection string --------------------------------------------------------------------
    BIZTALK_STRING = (
        Check.CONNECTION_STRING,
        "a string of the retired BizTalk hybrid connections",
        "create a hybrid connection in an Azure Relay namespace, and copy the string of its rule",
    )
    WRONG_SERVICE = (
        Check.CONNECTION_STRING,
        "a connection string of another service than Azure Relay",
        "copy the string in the relay namespace, under Shared access policies",
    )
    PLACEHOLDER = (
        Check.CONNECTION_STRING,
        "the text of an example, or a variable that nobody filled in",
        "put the real value in its place, as the portal or 'hybridge-relay connection-strings' "
        "shows it",
    )
    QUOTED_STRING = (
        Check.CONNECTION_STRING,
        "quotation marks belong to the text",
        "remove the quotation marks around it",
    )
    TRUNCATED_STRING = (
        Check.CONNECTION_STRING,
        "the string is not complete: it was cut off, or split at ';' by a shell",
        "copy the whole string, and put it in quotation marks where a shell reads it",
    )
    UNKNOWN_PROPERTY = (
        Check.CONNECTION_STRING,
        "a property that connection strings do not have",
        "the properties are Endpoint, SharedAccessKeyName, SharedAccessKey, EntityPath",
    )
    NO_ENTITY_PATH = (
        Check.CONNECTION_STRING,
        "the string is that of a namespace: it names no hybrid connection",
        "append ;EntityPath=NAME, or copy the string of the hybrid connection itself",
    )
    NO_KEY = (
        Check.CONNECTION_STRING,
        "the string has neither key nor token, and a listener needs one",
        "copy the string of a rule, with SharedAccessKeyName and SharedAccessKey",
    )
    ODD_KEY = (
        Check.CONNECTION_STRING,
        "the key does not look like one of Azure's: 44 characters, the last of them '='",
        "copy the string again, to its very end",
    )
    MALFORMED_STRING = (
        Check.CONNECTION_STRING,
        "the text is no connection string",
        "copy the string again from the portal or from 'hybridge-relay connection-strings'",
    )

    # --- the way there ------------------------------------------------------------------------
    NAME_UNKNOWN = (
        Check.DNS,
        "the name of the namespace (or of the proxy) cannot be resolved here",
        "check the host in Endpoint, and this machine's DNS; behind a proxy give --proxy",
    )
    DNS_TIMEOUT = (
        Check.DNS,
        "the DNS server does not answer in time",
        "check this machine's DNS server; behind a proxy give --proxy, which resolves names itself",
    )
    PORT_CLOSED = (
        Check.TCP,
        "the machine answers, and nothing listens on this port",
        "check that the relay is running, and the port in Endpoint or --connect-to",
    )
    TCP_TIMEOUT = (
        Check.TCP,
        "nobody answers: a firewall drops the packets, or the address is wrong",
        "let it reach that port (at Azure 443 of *.servicebus.windows.net), or give --proxy",
    )
    NO_ROUTE = (
        Check.TCP,
        "the network says that there is no way to this address",
        "check the network connection, the routes and the firewalls of this machine",
    )
    PROXY_AUTHENTICATION = (
        Check.PROXY,
        "the proxy wants a user and a password, or other ones than it got",
        "give them in the proxy's URL, in a file or the environment rather than on a command line",
    )
    PROXY_REFUSES = (
        Check.PROXY,
        "the proxy does not let this address through",
        "ask whoever runs the proxy to allow CONNECT to *.servicebus.windows.net:443",
    )
    PROXY_GARBAGE = (
        Check.PROXY,
        "what answers there is no proxy of this kind",
        "check the scheme, host and port of the proxy: http://, or socks5:// for SOCKS",
    )
    PROXY_TIMEOUT = (
        Check.PROXY,
        "the proxy accepts the connection, and then does not answer",
        "check the proxy, and whether it can reach the relay itself",
    )
    PROXY_FAILED = (
        Check.PROXY,
        "the proxy could not connect to the relay",
        "look into the proxy's log: its own DNS, route or firewall stops it",
    )
    NOT_TLS = (
        Check.TLS,
        "what answers on this port does not speak TLS",
        "check the port: Azure Relay has 443, and a plain HTTP port is no relay",
    )
    TLS_TOO_OLD = (
        Check.TLS,
        "the other end speaks only a version of TLS that is no longer safe",
        "find out what answers there: a relay speaks TLS 1.2; an old proxy must be updated",
    )
    TLS_FAILED = (
        Check.TLS,
        "the TLS handshake breaks off",
        "find out what stands in between: a firewall that looks at the server name does this",
    )
    TLS_TIMEOUT = (
        Check.TLS,
        "TCP is open, and TLS is never answered",
        "find out what stands in between: a firewall that inspects traffic, or a hung relay",
    )
    UNTRUSTED_ISSUER = (
        Check.TLS,
        "the certificate is from an authority that this machine does not trust",
        "give the authority's certificate with --ca",
    )
    WRONG_NAME = (
        Check.TLS,
        "the certificate is for another name than the namespace's",
        "check the host in Endpoint, and what --connect-to leads to",
    )
    CERTIFICATE_EXPIRED = (
        Check.TLS,
        "the certificate's time is over, or has not begun",
        "compare this machine's clock with the right time, then renew the certificate",
    )
    CERTIFICATE_UNUSABLE = (
        Check.TLS,
        "the certificate breaks a rule that this machine insists on",
        "have whoever signs it (a proxy that inspects TLS, a company's authority) mend that",
    )
    NOT_A_RELAY = (
        Check.CLOCK,
        "what answers there is not HTTP",
        "check the host and the port: something else than a relay listens there",
    )
    CLOCK_BEHIND = (
        Check.CLOCK,
        "this machine's clock is behind the relay's: tokens made here are expired when they arrive",
        "set the clock: turn on NTP, and check it with 'date -u'",
    )
    CLOCK_AHEAD = (
        Check.CLOCK,
        "this machine's clock is ahead of the relay's",
        "set the clock: turn on NTP, and check it with 'date -u'",
    )
    UPGRADE_STRIPPED = (
        Check.WEBSOCKET,
        "no WebSocket gets through: a proxy or gateway in between, or no relay at all",
        "make the proxy or gateway pass the headers Upgrade and Connection, or go around it",
    )
    WEBSOCKET_CUT = (
        Check.WEBSOCKET,
        "the connection is cut, or falls silent, when a WebSocket is asked for",
        "find the firewall or proxy in between that forbids WebSockets, and make an exception",
    )

    # --- what the relay says of the token -----------------------------------------------------
    WRONG_RIGHT = (
        Check.TOKEN,
        "the rule does not grant what this side needs: Listen for the agent, Send for the client",
        "exchange the strings: defaultListener's is for the agent, defaultSender's for the client",
    )
    WRONG_KEY = (
        Check.TOKEN,
        "the relay knows no such rule with such a key at this hybrid connection",
        "copy the connection string again: the key, the rule's name or EntityPath is another",
    )
    TRUNCATED_KEY = (
        Check.TOKEN,
        "the relay does not take the key, and it looks as if a part of it were missing",
        "copy the string again, to its very end, the '=' included",
    )
    TOKEN_EXPIRED = (
        Check.TOKEN,
        "the token's time is over",
        "take a new token, or a connection string with a key; check this machine's clock",
    )
    WRONG_AUDIENCE = (
        Check.TOKEN,
        "the token is for another namespace or hybrid connection",
        "check Endpoint and EntityPath: a token opens only what it was signed for",
    )
    MALFORMED_TOKEN = (
        Check.TOKEN,
        "the relay cannot read the token",
        "look at it with 'hybridge token inspect'",
    )
    NO_TOKEN = (
        Check.TOKEN,
        "senders need a token here, and the string has none",
        "use the string of a rule that grants Send",
    )
    ADDRESS_BLOCKED = (
        Check.TOKEN,
        "the namespace does not let this machine's address in",
        "add this machine's public address to the namespace's networking rules",
    )
    TOKEN_NOT_CHECKED = (
        Check.TOKEN,
        "the relay gave no answer that tells anything about the token",
        "try again; if it stays so, look into the relay's log",
    )

    # --- the hybrid connection ----------------------------------------------------------------
    ENTITY_MISSING = (
        Check.ENTITY,
        "there is no hybrid connection of this name in the namespace",
        "check EntityPath, or create the hybrid connection",
    )
    METADATA_WITHOUT_ENDPOINT = (
        Check.METADATA,
        "the hybrid connection's metadata names no endpoint host and port",
        "give the agent --target HOST:PORT, or set the endpoint of the hybrid connection",
    )
    METADATA_UNREADABLE = (
        Check.METADATA,
        "the metadata cannot be read with this rule: Azure asks for Manage",
        "give the agent --target HOST:PORT, and the client --listen",
    )
    NO_LISTENER = (
        Check.LISTENERS,
        "no agent is connected",
        "start one where the target can be reached: hcm run",
    )
    LISTENERS_FULL = (
        Check.LISTENERS,
        "as many listeners are connected as a hybrid connection may have",
        "stop one of the agents",
    )

    # --- the far end --------------------------------------------------------------------------
    NO_TARGET = (
        Check.TARGET,
        "nobody says where the agent shall connect to",
        "give --target HOST:PORT, or set the endpoint of the hybrid connection",
    )
    TARGET_NOT_ALLOWED = (
        Check.TARGET,
        "the agent's allow-list does not have the target",
        "where it is right, give the agent --allow-target, or AllowTargets in its file",
    )
    TARGET_NAME_UNKNOWN = (
        Check.TARGET,
        "the target's name cannot be resolved on this machine",
        "check the endpoint's host name, and this machine's DNS",
    )
    TARGET_REFUSES = (
        Check.TARGET,
        "the target's machine answers, and nothing listens on this port",
        "start the service, and make it listen on this port and on this machine's network",
    )
    TARGET_TIMEOUT = (
        Check.TARGET,
        "the target does not answer: wrong address, or a firewall drops the packets",
        "check the endpoint's host and port, and the firewalls between agent and target",
    )
    TARGET_UNREACHABLE = (
        Check.TARGET,
        "the network says that there is no way to the target",
        "check the endpoint's host, and this machine's routes",
    )
    TARGET_LOOPS = (
        Check.TARGET,
        "the target's name leads to this machine itself",
        "on the agent's machine no hosts line may send the target's name to a local address: "
        "'app-client hosts --remove', or --target with the target's IP address",
    )
    LISTENER_REJECTS = (
        Check.CONNECTION,
        "the agent was asked, and refused",
        "read the agent's log, and run 'hybridge doctor --as listener' on its machine",
    )
    LISTENER_DOES_NOT_COME = (
        Check.CONNECTION,
        "the agent was told of the connection and did not come in time",
        "on the agent's machine: is it alive, and does a firewall let it reach the gateways "
        "*.servicebus.windows.net, besides the namespace?",
    )
    CONNECTION_REFUSED = (
        Check.CONNECTION,
        "the relay refuses the connection",
        "look for the TrackingId in the relay's log",
    )
    CONNECTION_LOST = (
        Check.CONNECTION,
        "the connection is made, and breaks at once",
        "read the agent's log: its target ends the connection, or something in between does",
    )
    CONNECTION_FAILED = (
        Check.CONNECTION,
        "the relay does not answer the sender in time, or breaks off",
        "try again; if it stays so, find out what stands between here and the relay",
    )
    LISTENER_REFUSED = (
        Check.ROUND_TRIP,
        "the relay does not take a listener",
        "look for the TrackingId in the relay's log",
    )
    RENDEZVOUS_UNREACHABLE = (
        Check.ROUND_TRIP,
        "the gateway that the relay names for a connection cannot be reached from here",
        "let this machine reach port 443 of *.servicebus.windows.net: the namespace alone is not "
        "enough",
    )
    BYTES_LOST = (
        Check.ROUND_TRIP,
        "the connection is made, and the bytes do not come back",
        "find out what stands in between: something inspects or holds back WebSocket frames",
    )

    def __init__(self, check: Check, meaning: str, next_step: str) -> None:
        self.check = check
        self.meaning = meaning
        self.next_step = next_step

    @property
    def code(self) -> str:
        """Its stable name: ``wrong-right``."""
        return self.name.lower().replace("_", "-")
