// An hour on the page, in seconds: its clock is driven, and what it hears of *now* changes all the time.

import { strict as assert } from 'node:assert';
import { setTimeout as sleep } from 'node:timers/promises';
import { Front } from './front.js';
import { Look } from './look.js';
import { until } from './installation.js';

/** The time of a step on the page's clock, in milliseconds. Each step changes what goes on now. */
const STEP_MS = 5_000;
const STEPS = 3_600_000 / STEP_MS;
/** Steps until caches of page and engine are full; only then the heap is measured for the first time. */
const WARM_UP = 60;
/** A live stream ends after so many steps. */
const STREAM_STEPS = 1_800_000 / STEP_MS;
/** The most that the heap may grow. */
const MAX_GROWTH_BYTES = 5_000_000;

/** Answers of the service, asked for once: its limits are meant for people, and an hour takes seconds here. */
class Answers {
  constructor(installation, token) {
    this.installation = installation;
    this.token = token;
    /** @type {Map<string, Promise<{ status: number, headers: Record<string, string>, body: Buffer }>>} */
    this.known = new Map();
  }

  get(path) {
    const known = this.known.get(path) ?? this.ask(path);
    this.known.set(path, known);
    return known;
  }

  async ask(path) {
    const answer = await until(`an answer to ${path}`, async () => {
      const answer = await this.installation.ask(path, this.token);
      return [429, 503].includes(answer.status) ? null : answer;
    });
    const body = Buffer.from(await answer.arrayBuffer());
    return { status: answer.status, headers: { 'Content-Type': answer.headers.get('content-type') ?? '' }, body };
  }
}

export async function anHour(t, { browser, installation }) {
  const { token } = await installation.token();
  const answers = new Answers(installation, token);
  /** @type {Set<import('node:http').ServerResponse>} */
  const streams = new Set();
  let questions = 0;
  let asOf = new Date().toISOString();
  const front = await Front.start(installation.url, '/stats', (path, response) => {
    const below = path.match(/^\/dashboard\/(data\/.*|account|now)$/)?.[1];
    if (path === '/dashboard/live') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write(': here\n\n');
      streams.add(response);
      response.on('close', () => streams.delete(response));
    } else if (below) {
      questions += 1;
      answers.get(below).then(({ status, headers, body }) =>
        response.writeHead(status, { ...headers, 'Data-As-Of': asOf }).end(body));
    } else return false;
    return true;
  });
  t.after(() => front.stop());

  const look = await Look.open(browser, { url: front.url, token, prepare: (page) => page.clock.install() });
  const heap = await look.page.context().newCDPSession(look.page);
  const used = async () => {
    await heap.send('HeapProfiler.collectGarbage');
    const { usedSize } = await heap.send('Runtime.getHeapUsage');
    return { bytes: usedSize, ...(await heap.send('Memory.getDOMCounters')) };
  };
  const pair = { BotName: 'Pizza', BotId: 'b1', ChannelName: 'Web', ChannelId: 'web', OldestRequest: null };
  const step = async (number) => {
    const open = 10 + (number % 90);
    asOf = await look.page.evaluate(() => new Date().toISOString());
    const now = {
      AsOf: asOf,
      Bots: [{ ...pair, Open: open, Waiting: 2, WaitingActive: 1, WithOperator: 3, WithBot: open - 5, Unanswered: 4 }],
    };
    for (const stream of streams) stream.write(`event: now\ndata: ${JSON.stringify(now)}\n\n`);
    if (number % STREAM_STEPS === STREAM_STEPS - 1) for (const stream of streams) stream.end();
    await look.page.clock.runFor(STEP_MS);
    return String(open);
  };
  const open = look.page.locator('[data-now=Open]');
  const shows = (number) => until(`${number} open`, async () => {
    if (await open.innerText() === number) return true;
    await look.page.clock.runFor(100);
    return false;
  });

  await until('a stream', async () => {
    await look.page.clock.runFor(100);
    return streams.size > 0;
  });
  let at = 0;
  let last = '';
  for (; at < WARM_UP; at += 1) last = await step(at);
  await shows(last);
  const before = await used();
  for (; at < STEPS; at += 1) last = await step(at);
  await sleep(200);
  await shows(last = await step(at));
  const after = await used();
  const growth = after.bytes - before.bytes;
  t.diagnostic(`heap ${before.bytes} -> ${after.bytes} bytes, nodes ${before.nodes} -> ${after.nodes}, `
    + `listeners ${before.jsEventListeners} -> ${after.jsEventListeners}; ${questions} questions in the hour`);
  await look.close();
  assert.ok(growth < MAX_GROWTH_BYTES, `the heap grew by ${growth} bytes`);
}
