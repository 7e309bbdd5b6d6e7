"""Asks through the relay with requests. A token in a header is all that a sender needs."""

import os
import time

import requests

from hybridge.protocol.connection_string import parse, token_for

relay = parse(os.environ["SEND"])
token = token_for(relay, expires_at=int(time.time()) + 600)
assert token, "SEND has no key"

answer = requests.get(
    f"https://{relay.host}:{relay.port}/{relay.path}/orders/2",
    headers={"ServiceBusAuthorization": token},
    verify=os.environ["CA"],
    timeout=70,  # The relay waits 60 seconds for a listener's answer.
)
answer.raise_for_status()
print(answer.json()["article"])
