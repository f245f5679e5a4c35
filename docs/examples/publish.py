"""Publishes one short conversation, every event acknowledged by the stream.

    pip install nats-py
    python publish.py acme bot1 web             # NATS_URL, default nats://127.0.0.1:4222
    python publish.py --batch acme bot1 web     # all events in one atomic batch

The rules for events are in docs/events.md.
"""

import asyncio
import json
import os
import sys
import uuid
from datetime import datetime, timedelta, timezone

import nats
from nats.errors import Error as NatsError
from nats.js.errors import APIError

ACK_TIMEOUT_S = 5
RETRY_PAUSE_S = 0.25
GIVE_UP_AFTER_S = 60


class Refused(Exception):
    """The server will never store these bytes."""


def event(name, time, data):
    """Returns the bytes of one event. Make them once: a retry must send the same bytes, so the same id."""
    return json.dumps({
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/docs/examples/publish.py",
        "type": f"io.botstats.{name}.v1",
        "time": time.isoformat(),
        "data": data,
    }).encode()


async def until_stored(send):
    """Calls `send` until the stream has acknowledged; returns the sequence in the stream.

    After a time-out the event may be stored or not. Sending the same bytes again is always
    safe, because an event counts once, no matter how often it is stored.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + GIVE_UP_AFTER_S
    while True:
        try:
            return await send()
        except APIError as error:
            # 429 means that the server has too much to do at the moment: try again.
            if 400 <= (error.code or 500) < 500 and error.code != 429:
                raise Refused(error.description) from error
            problem = error
        except (NatsError, asyncio.TimeoutError) as error:
            problem = error
        if loop.time() >= give_up_at:
            raise problem
        await asyncio.sleep(RETRY_PAUSE_S)


async def publish(nc, subject, payload):
    headers = {"Content-Type": "application/cloudevents+json"}

    async def send():
        ack = await nc.jetstream().publish(
            subject, payload, headers=headers, timeout=ACK_TIMEOUT_S)
        return ack.seq

    return await until_stored(send)


async def publish_batch(nc, subject, payloads):
    """Stores 1 to 1,000 events together or not at all, with one acknowledgement."""

    async def send():
        batch_id = str(uuid.uuid4())
        for number, payload in enumerate(payloads, start=1):
            headers = {
                "Content-Type": "application/cloudevents+json",
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(number),
            }
            if number < len(payloads):
                await nc.publish(subject, payload, headers=headers)
        headers["Nats-Batch-Commit"] = "1"
        answer = await nc.request(
            subject, payloads[-1], timeout=ACK_TIMEOUT_S, headers=headers)
        ack = json.loads(answer.data)
        if "error" in ack:
            raise APIError.from_error(ack["error"])
        return ack["seq"]

    return await until_stored(send)


async def on_error(error):
    print(f"NATS: {error}", file=sys.stderr)


async def main(arguments):
    batch = arguments[:1] == ["--batch"]
    account, bot, channel = arguments[1:] if batch else arguments
    subject = f"botstats.events.{account}.{bot}.{channel}"

    began = datetime.now(timezone.utc) - timedelta(seconds=30)
    ids = {"conversationid": str(uuid.uuid4()), "userid": "user-1"}

    def after(seconds):
        return began + timedelta(seconds=seconds)

    payloads = [
        event("message.received", after(0), {**ids, "kind": "text"}),
        event("nlp.evaluated", after(1), {**ids, "detected": True, "intent": "order"}),
        event("integration.called", after(2), {**ids, "kind": "api", "ok": True, "status": 200}),
        event("message.sent", after(3), {**ids, "fallback": False, "parts": 2}),
        event("goal.reached", after(20), {**ids, "goal": "ordered"}),
        event("conversation.ended", after(21), {**ids, "reason": "done"}),
    ]
    url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    # A NATS user with restricted rights needs its own inbox prefix (docs/install.md, "Rights in NATS").
    inbox = os.environ.get("NATS_INBOX_PREFIX", "_INBOX").encode()
    nc = await nats.connect(url, error_cb=on_error, max_reconnect_attempts=-1, inbox_prefix=inbox)
    try:
        if batch:
            last = await publish_batch(nc, subject, payloads)
            print(f"{len(payloads)} events stored together, the last at sequence {last}")
        else:
            for payload in payloads:
                sequence = await publish(nc, subject, payload)
                print(f"stored at sequence {sequence}")
    finally:
        await nc.close()


if __name__ == "__main__":
    if len([a for a in sys.argv[1:] if a != "--batch"]) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1:]))
