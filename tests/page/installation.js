// A live installation: nats-server, ingest and query, which the program tests/examples/page.rs
// starts and disturbs. It ends with this process.

import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

/** The longest wait for a condition, in milliseconds. */
export const PATIENCE = 60_000;
/** The interval in which a condition is checked, in milliseconds. */
const POLL = 50;

/**
 * Looks until there is something.
 * @template T @param {string} what @param {() => Promise<T>} look
 * @param {() => unknown} [why] says what it saw last
 * @returns {Promise<T>}
 */
export async function until(what, look, why = () => '') {
  const end = performance.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > end) throw new Error(`not within ${PATIENCE / 1000} s: ${what} ${why()}`);
    await sleep(POLL);
  }
}

const sha256 = (text) => createHash('sha256').update(text).digest('hex');

export class Installation {
  /** @param {string} program */
  static async start(program) {
    const child = spawn(program, [], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const made = new Installation(child, lines);
    Object.assign(made, JSON.parse(await made.line()));
    return made;
  }

  constructor(child, lines) {
    this.child = child;
    this.lines = lines;
    this.turn = Promise.resolve();
    /** Where query answers clients. */
    this.url = '';
    /** Its internal listener. */
    this.internal = '';
    /** @type {Record<string, { token: string, bots: Record<string, string>, keys: Record<string, string> }>} */
    this.accounts = {};
  }

  async line() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error('the installation ended');
    return value;
  }

  /** Carries out a command, see tests/examples/page.rs. */
  command(command) {
    this.turn = this.turn.then(async () => {
      this.child.stdin.write(`${JSON.stringify(command)}\n`);
      await this.line();
    });
    return this.turn;
  }

  kill(program) { return this.command({ kill: program }); }
  start(program) { return this.command({ start: program }); }
  put(key, entry) { return this.command({ put: [key, entry] }); }

  /** Publishes an event of this moment, and waits until it is counted. */
  async publish(type, { account = 'acme', bot = 'b1', channel = 'web', conversation = 'page', user = 'P', data = {} } = {}) {
    const event = {
      specversion: '1.0', id: randomBytes(8).toString('hex'), source: '/page', type: `io.botstats.${type}.v1`,
      time: new Date().toISOString(), data: { conversationid: conversation, userid: user, ...data },
    };
    await this.command({ publish: [`botstats.events.${account}.${bot}.${channel}`, event] });
  }

  /**
   * A new view token, so that no test uses up the questions of another. `ends` ends it.
   * @param {{ account?: string, bots?: string[] | null, operators?: boolean }} [of]
   */
  async token({ account = 'acme', bots = null, operators = true } = {}) {
    const id = `p${randomBytes(4).toString('hex')}`;
    const token = `bst_page_${randomBytes(12).toString('hex')}`;
    const entry = { sha256: sha256(token), created: new Date().toISOString(), expires: null, bots, operators };
    await this.put(`view.${account}.${id}`, entry);
    await until('a new token', async () => (await this.ask('account', token)).status === 200);
    const ends = () => this.put(`view.${account}.${id}`, { ...entry, expires: '2020-01-01T00:00:00Z' });
    return { token, ends };
  }

  /** An answer to a path below `/dashboard/`. */
  async ask(path, token) {
    return fetch(`${this.url}/dashboard/${path}`, { headers: { Authorization: `Bearer ${token}` } });
  }

  /** What goes on now, as it is answered. */
  async now(token) {
    const answer = await until('what goes on now', async () => {
      const answer = await this.ask('now', token);
      return answer.status === 200 ? answer : answer.text().then(() => null);
    });
    return answer.json();
  }

  /** The rows that answer a question. */
  async rows(question, token) {
    const answer = await until(`an answer to ${question}`, async () => {
      const answer = await this.ask(`data/${question}`, token);
      if (answer.status === 429 || answer.status === 503) {
        await answer.text();
        return null;
      }
      return answer;
    });
    if (answer.status !== 200) throw new Error(`${question}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** The value of a metric of query, or 0. */
  async metric(name) {
    const text = await (await fetch(`${this.internal}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(name) && /[ {]/.test(line[name.length]));
    if (lines.length === 0) throw new Error(`no metric ${name}`);
    return lines.reduce((sum, line) => sum + Number(line.split(' ').pop()), 0);
  }

  async stop() {
    this.child.stdin.end();
    await new Promise((done) => this.child.once('exit', done));
  }
}
