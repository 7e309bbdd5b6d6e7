"""Asks a plain HTTP API with nothing but Python's own library."""

import json
from urllib.request import urlopen

with urlopen("http://api.corp.local:8080/orders/1", timeout=20) as answer:
    print(json.load(answer)["article"])
