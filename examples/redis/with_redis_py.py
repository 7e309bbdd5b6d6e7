"""Counts and listens in Redis, with redis-py."""

import redis

with redis.Redis(
    host="cache.corp.local", port=6379, decode_responses=True, health_check_interval=60
) as cache:
    print("orders so far:", cache.incr("orders"))

    with cache.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe("shipped")
        subscription.get_message(timeout=5)  # The answer to our subscription.
        cache.publish("shipped", "pallet of bolts")
        message = subscription.get_message(timeout=5)
        print("shipped:", message["data"] if message else "nothing")
