"""Asks an HTTPS API by its own name: Host header, SNI and certificate are as without a relay."""

import os

import requests

answer = requests.get(
    "https://api.corp.local:9443/orders/1", verify=os.environ["CORP_CA"], timeout=20
)
answer.raise_for_status()
print(answer.json()["article"])
