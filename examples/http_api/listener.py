"""An API that listens at the relay itself: no port, no agent. LISTEN and CA: see the page."""

import asyncio
import json
import os
from pathlib import Path

from hybridge import IncomingRequest, Listener

ORDERS = {"1": {"article": "pallet of bolts"}, "2": {"article": "conveyor belt"}}


async def answer(request: IncomingRequest) -> None:
    number = request.target.rpartition("/")[2]
    if number not in ORDERS:
        await request.respond(404, b"no such order\n")
        return
    body = json.dumps(ORDERS[number]).encode()
    await request.respond(200, body, headers={"Content-Type": "application/json"})


async def main() -> None:
    ca = Path(os.environ["CA"])
    async with Listener(os.environ["LISTEN"], ca=ca, request_handler=answer) as listener:
        await listener.wait_online()
        print("online", flush=True)
        await listener.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
