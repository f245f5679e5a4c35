// Publishes one short conversation, every event acknowledged by the stream.
//
//     npm install @nats-io/transport-node @nats-io/jetstream
//     node publish.mjs acme bot1 web          # NATS_URL, default nats://127.0.0.1:4222
//
// The rules for events are in docs/events.md.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { jetstream, JetStreamApiError } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";

const ACK_TIMEOUT_MS = 5_000;
const RETRY_PAUSE_MS = 250;
const GIVE_UP_AFTER_MS = 60_000;

// Returns the text of one event. Make the text once: a retry must send the same bytes, so the same id.
function event(kind, timeMs, data) {
  return JSON.stringify({
    specversion: "1.0",
    id: randomUUID(),
    source: "/docs/examples/publish.mjs",
    type: `io.botstats.${kind}.v1`,
    time: new Date(timeMs).toISOString(),
    data,
  });
}

// Sends an event until the stream has acknowledged it; returns its sequence in the stream.
//
// After a time-out the event may be stored or not. Sending the same bytes again is always safe, because an
// event counts once, no matter how often it is stored.
async function publish(js, subject, payload) {
  const giveUpAt = Date.now() + GIVE_UP_AFTER_MS;
  const head = headers();
  head.set("Content-Type", "application/cloudevents+json");
  for (;;) {
    try {
      // `retries: 1` makes the library try once; this loop makes all further tries.
      const ack = await js.publish(subject, payload, {
        headers: head,
        timeout: ACK_TIMEOUT_MS,
        retries: 1,
      });
      return ack.seq;
    } catch (error) {
      // The server will never store these bytes, so a retry does not help. Only 429 means that it has too much to do.
      if (error instanceof JetStreamApiError && error.status < 500 && error.status !== 429) throw error;
      if (Date.now() >= giveUpAt) throw error;
      await sleep(RETRY_PAUSE_MS);
    }
  }
}

const [account, bot, channel] = process.argv.slice(2);
if (!account || !bot || !channel) {
  console.error("usage: node publish.mjs ACCOUNT BOT CHANNEL");
  process.exit(64);
}
const subject = `botstats.events.${account}.${bot}.${channel}`;
const began = Date.now() - 30_000;
const ids = { conversationid: randomUUID(), userid: "user-2" };
const payloads = [
  event("message.received", began, { ...ids, kind: "text" }),
  event("nlp.evaluated", began + 1_000, { ...ids, detected: false }),
  event("message.sent", began + 2_000, { ...ids, fallback: true }),
  event("operator.requested", began + 3_000, { ...ids, by: "user" }),
  event("operator.joined", began + 9_000, { ...ids, operatorid: "op-7" }),
  event("operator.message", began + 12_000, { ...ids, operatorid: "op-7" }),
  event("operator.released", began + 20_000, { ...ids, reason: "done" }),
];

const servers = process.env.NATS_URL ?? "nats://127.0.0.1:4222";
// A NATS user with restricted rights needs its own inbox prefix (docs/install.md, "Rights in NATS").
const inboxPrefix = process.env.NATS_INBOX_PREFIX ?? "_INBOX";
const nc = await connect({ servers, inboxPrefix, maxReconnectAttempts: -1 });
try {
  const js = jetstream(nc);
  for (const payload of payloads) {
    console.log(`stored at sequence ${await publish(js, subject, payload)}`);
  }
} finally {
  await nc.close();
}
