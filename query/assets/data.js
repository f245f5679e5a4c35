// Questions to the service: a queue of four, the token, waiting and repeating, the live stream.

/** The folder of the paths, whatever prefix a reverse proxy gives it: `<prefix>/dashboard/`. */
const BASE = new URL('../', import.meta.url);
/** Questions under way at a time; the service computes one of an account, and eight wait. */
const AT_A_TIME = 4;
/**
 * The longest wait before a question is repeated, in milliseconds, unless the service asks for
 * more.
 */
const LONGEST_WAIT = 15_000;
/** A question without an answer for this long has failed, in milliseconds. */
const QUESTION_LIMIT = 20_000;
/** A stream sends something every 15 s; one that is silent for this long is dead. */
const SILENT_LIMIT = 40_000;
/** Between two questions for what goes on now, without a stream. */
const POLL = 10_000;

/** Where the token is kept, as long as the tab. */
const KEY = 'botstats-token';

/** Takes a token from the address, and out of it. True if there was one. */
export function takeToken() {
  const found = /^#(bst_[\w-]+)$/.exec(location.hash);
  if (!found) return false;
  keepToken(found[1]);
  history.replaceState(null, '', location.pathname + location.search);
  return true;
}

export const keptToken = () => sessionStorage.getItem(KEY) ?? '';

/** @param {string} token empty: none any more */
export function keepToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

/** Why there is no answer. */
export class Problem extends Error {
  /**
   * @param {number} status 0 if the service was not reached
   * @param {string} type the last word of the problem's type
   * @param {string} detail @param {number} wait seconds of `Retry-After`, or 0
   */
  constructor(status, type, detail, wait) {
    super(detail);
    this.status = status;
    this.type = type;
    this.wait = wait;
  }

  /** True if the same question may get an answer later. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  /** What happened and what to do, for people. */
  get words() {
    switch (this.status) {
      case 0: return 'The service cannot be reached. The page keeps trying.';
      case 400: return this.type === 'answer-too-large'
        ? 'This would be more rows than the page shows. Choose fewer days, a coarser grain or one bot.'
        : `The service refuses the question: ${this.message}`;
      case 401: return 'The token is not valid: it is unknown, was revoked or has expired. Ask whoever gave it to you for a new link.';
      case 403: return 'The token is valid, but not for this page. The page needs a token of an account, or a link to the page.';
      case 404: return 'The account or the bot does not exist, or was removed.';
      case 429: return 'More questions than the service allows in a minute. The page waits and asks again.';
      case 503: return 'The service cannot answer just now. The page keeps trying.';
      default: return `The service failed (status ${this.status}). The page keeps trying.`;
    }
  }
}

/** @param {number} ms @param {AbortSignal} [signal] */
export function sleep(ms, signal) {
  return new Promise((done) => {
    if (signal?.aborted) { done(undefined); return; }
    const timer = setTimeout(end, ms);
    function end() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      done(undefined);
    }
    signal?.addEventListener('abort', end, { once: true });
  });
}

/**
 * How long to wait before asking again, in milliseconds.
 * @param {Problem} problem @param {number} tries
 */
function backoff(problem, tries) {
  const wait = Math.max(problem.wait * 1_000, Math.min(LONGEST_WAIT, 500 * 2 ** Math.min(tries, 6)));
  return wait * (1 + Math.random() / 5);
}

/** @param {Response} response */
async function problem(response) {
  /** @type {{ type?: unknown, detail?: unknown }} */
  const body = await response.json().catch(() => ({}));
  const type = String(body.type ?? '').split(':').pop() ?? '';
  const wait = Number(response.headers.get('Retry-After') ?? 0) || 0;
  return new Problem(response.status, type, String(body.detail ?? ''), wait);
}

export class Client {
  /** @param {string} token */
  constructor(token) {
    /** @private */ this.token = token;
    /** @private */ this.under_way = 0;
    /** @private @type {(() => void)[]} */ this.waiting = [];
    /** @private */ this.not_before = 0;
    /** How far the service's clock is ahead of this one, in milliseconds. */
    this.ahead = 0;
    /** @private Ends the waits of questions, once the service is there again. */
    this.rest = new AbortController();
    /**
     * Called with what went wrong, and with null once an answer came, of questions and of the stream.
     * @type {(of: 'ask' | 'live', p: Problem | null) => void}
     */
    this.trouble = () => {};
  }

  /** Now, by the service's clock. */
  now() {
    return Date.now() + this.ahead;
  }

  /** @param {string} path below `/dashboard/` @param {AbortSignal} signal @param {string} accept */
  async fetch(path, signal, accept) {
    /** @type {Response} */
    let response;
    try {
      response = await fetch(new URL(path, BASE), {
        headers: { Authorization: `Bearer ${this.token}`, Accept: accept },
        signal, cache: 'no-store', credentials: 'omit', redirect: 'error',
      });
    } catch (error) {
      throw new Problem(0, 'network', String(error), 0);
    }
    const date = Date.parse(response.headers.get('Date') ?? '');
    if (!Number.isNaN(date) && Math.abs(date - this.now()) > 2_000) this.ahead = date - Date.now();
    if (!response.ok) throw await problem(response);
    return response;
  }

  /**
   * Asks, and repeats the question until it has an answer or a refusal that stays.
   * @param {string} path @param {AbortSignal} signal
   * @returns {Promise<{ body: any, asOf: number, took: number }>} asOf in Unix ms, or NaN
   */
  async get(path, signal) {
    for (let tries = 0; ; tries += 1) {
      await this.turn(signal);
      let wait = 0;
      try {
        const began = performance.now();
        const limit = AbortSignal.any([signal, AbortSignal.timeout(QUESTION_LIMIT)]);
        const response = await this.fetch(path, limit, 'application/json');
        const body = await response.json().catch((/** @type {unknown} */ e) => {
          throw new Problem(0, 'network', String(e), 0);
        });
        this.trouble('ask', null);
        const asOf = Date.parse(response.headers.get('Data-As-Of') ?? '');
        return { body, asOf, took: performance.now() - began };
      } catch (error) {
        if (signal.aborted || !(error instanceof Problem)) throw error;
        if (!error.passes) throw error;
        wait = backoff(error, tries);
        this.trouble('ask', error);
        if (error.status === 429) this.not_before = Math.max(this.not_before, Date.now() + wait);
      } finally {
        this.under_way -= 1;
        this.waiting.shift()?.();
      }
      await sleep(wait, AbortSignal.any([signal, this.rest.signal]));
    }
  }

  /** @private @param {AbortSignal} signal */
  async turn(signal) {
    while (this.under_way >= AT_A_TIME || Date.now() < this.not_before) {
      if (signal.aborted) break;
      if (this.under_way >= AT_A_TIME) await new Promise((go) => this.waiting.push(() => go(undefined)));
      else await sleep(this.not_before - Date.now(), signal);
    }
    if (signal.aborted) {
      this.waiting.shift()?.();
      throw new DOMException('no longer asked', 'AbortError');
    }
    this.under_way += 1;
  }

  /**
   * What goes on now, until the signal: by the stream, or by asking every 10 s without one. There
   * is no stream while the page is hidden.
   * @param {AbortSignal} signal
   * @param {{
   *   now: (now: any) => void, alive: () => void,
   *   state: (state: 'live' | 'polling' | 'old') => void, refused: (p: Problem) => void
   * }} to
   */
  async live(signal, to) {
    for (let fails = 0; !signal.aborted;) {
      await visible(signal);
      if (signal.aborted) return;
      const stop = new AbortController();
      const hide = () => { if (document.hidden) stop.abort(); };
      document.addEventListener('visibilitychange', hide);
      try {
        await this.stream(AbortSignal.any([signal, stop.signal]), stop, (now) => {
          if (fails > 0) {
            this.rest.abort();
            this.rest = new AbortController();
          }
          fails = 0;
          this.trouble('live', null);
          to.state('live');
          if (now) to.now(now);
          else to.alive();
        });
        await sleep(200 + Math.random() * 800, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (document.hidden) continue;
        const p = error instanceof Problem ? error : new Problem(0, 'network', String(error), 0);
        if (!p.passes) { to.refused(p); return; }
        await this.poll(Date.now() + backoff(p, fails), signal, to);
        fails += 1;
      } finally {
        document.removeEventListener('visibilitychange', hide);
      }
    }
  }

  /**
   * @private @param {number} until Unix ms @param {AbortSignal} signal
   * @param {{ now: (now: any) => void, state: (s: 'polling' | 'old') => void, refused: (p: Problem) => void }} to
   */
  async poll(until, signal, to) {
    do {
      try {
        const limit = AbortSignal.any([signal, AbortSignal.timeout(QUESTION_LIMIT)]);
        const response = await this.fetch('now', limit, 'application/json');
        to.now(await response.json());
        to.state('polling');
        this.trouble('live', null);
      } catch (error) {
        if (signal.aborted) return;
        to.state('old');
        if (error instanceof Problem) {
          this.trouble('live', error);
          if (!error.passes) { to.refused(error); return; }
        }
      }
      await sleep(Math.min(Math.max(until - Date.now(), 0), POLL), signal);
    } while (Date.now() < until && !signal.aborted && !document.hidden);
  }

  /**
   * @private @param {AbortSignal} signal @param {AbortController} stop
   * @param {(now: any) => void} seen
   */
  async stream(signal, stop, seen) {
    let timer = setTimeout(() => stop.abort(), SILENT_LIMIT);
    try {
      const response = await this.fetch('live', signal, 'text/event-stream');
      const reader = response.body?.getReader();
      if (!reader) throw new Problem(0, 'network', 'no stream', 0);
      const decoder = new TextDecoder();
      let text = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => stop.abort(), SILENT_LIMIT);
        text += decoder.decode(value, { stream: true }).replaceAll('\r', '');
        for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
          const lines = text.slice(0, end).split('\n');
          text = text.slice(end + 2);
          const data = lines.filter((l) => l.startsWith('data:')).map((l) => l.slice(5)).join('\n');
          seen(data && lines.some((l) => /^event: ?now$/.test(l)) ? JSON.parse(data) : null);
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Waits until the page can be seen. @param {AbortSignal} signal */
async function visible(signal) {
  while (document.hidden && !signal.aborted) {
    await new Promise((go) => {
      const done = () => {
        document.removeEventListener('visibilitychange', done);
        signal.removeEventListener('abort', done);
        go(undefined);
      };
      document.addEventListener('visibilitychange', done);
      signal.addEventListener('abort', done);
    });
  }
}
