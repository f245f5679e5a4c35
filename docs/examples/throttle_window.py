"""Changes the throttle window of the KV bucket; used calls stay used.

    pip install nats-py
    python throttle_window.py 900        # seconds; NATS_URL, default nats://127.0.0.1:4222

Stop every botstats-query before. Afterwards start each with the new window in BOTSTATS_THROTTLE_WINDOW.
"""

import asyncio
import os
import sys

import nats

STREAM = "KV_botstats_throttle"


async def main(seconds):
    # A NATS user with restricted rights needs its own inbox prefix (docs/install.md, "Rights in NATS").
    inbox = os.environ.get("NATS_INBOX_PREFIX", "_INBOX").encode()
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), inbox_prefix=inbox)
    try:
        # The KV bucket may be in another JetStream domain than the server of this connection.
        js = nc.jetstream(domain=os.environ.get("NATS_JS_DOMAIN") or None)
        config = (await js.stream_info(STREAM)).config
        before = config.max_age
        config.max_age = seconds
        # The duplicate window, in seconds, may not be longer than max_age.
        config.duplicate_window = min(seconds, 120)
        await js.update_stream(config)
        print(f"window was {before:g} s, is {seconds:g} s")
    finally:
        await nc.close()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal() or int(sys.argv[1]) == 0:
        sys.exit(__doc__)
    asyncio.run(main(float(sys.argv[1])))
