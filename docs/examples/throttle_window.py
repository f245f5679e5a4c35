"""Changes the throttle window of the KV bucket; used calls stay used.

    pip install nats-py
    python throttle_window.py 900        # seconds; NATS_URL, default nats://127.0.0.1:4222
    python throttle_window.py 900 botstats_throttle_bot

The bucket of the calls of accounts is botstats_throttle. Stop every botstats-query before. Afterwards start each with
the new window in BOTSTATS_THROTTLE_WINDOW, or BOTSTATS_BOT_THROTTLE_WINDOW.
"""

import asyncio
import os
import sys

import nats

BUCKETS = ["botstats_throttle", "botstats_throttle_bot"]


async def main(seconds, bucket):
    # A NATS user with restricted rights needs its own inbox prefix (docs/install.md, "Rights in NATS").
    inbox = os.environ.get("NATS_INBOX_PREFIX", "_INBOX").encode()
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), inbox_prefix=inbox)
    try:
        # The KV bucket may be in another JetStream domain than the server of this connection.
        js = nc.jetstream(domain=os.environ.get("NATS_JS_DOMAIN") or None)
        config = (await js.stream_info(f"KV_{bucket}")).config
        before = config.max_age
        config.max_age = seconds
        # The duplicate window, in seconds, may not be longer than max_age.
        config.duplicate_window = min(seconds, 120)
        await js.update_stream(config)
        print(f"window was {before:g} s, is {seconds:g} s")
    finally:
        await nc.close()


if __name__ == "__main__":
    seconds, bucket = (sys.argv[1:] + BUCKETS[:1])[:2] if len(sys.argv) in (2, 3) else ("", "")
    if not seconds.isdecimal() or int(seconds) == 0 or bucket not in BUCKETS:
        sys.exit(__doc__)
    asyncio.run(main(float(seconds), bucket))
