// The page: token, what the controls say (and the address remembers), what is asked when, keys.

import { asks, el, explain, find, options, put } from './charts.js';
import { Client, Problem, keepToken, keptToken, sleep, takeToken } from './data.js';
import { METRICS, OTHERS, addDays, csv, dates, definition, earliest, isDate, local, metric, span, viewOf } from './metrics.js';
import { PARTS, mine, nothing, showFirst, showPairs } from './parts.js';

/** @typedef {import('./metrics.js').Row} Row */
/** @typedef {import('./metrics.js').Account} Account */
/** @typedef {import('./parts.js').Pair} Pair */

/** Least times between questions for the summary, after news and else, and for the chart, in ms. */
const [NEWS_EVERY, TILES_EVERY, MAIN_EVERY] = [900, 2_200, 30_000];

const $ = (/** @type {string} */ selector) => find(document, selector);
const control = (/** @type {string} */ name) => /** @type {HTMLSelectElement & HTMLInputElement} */ ($(`[name="${name}"]`));

/** @type {Client} */ let client;
/** @type {Account} */ let account;
/** @type {import('./metrics.js').View} */ let view;
/** @type {{ AsOf: string, Bots: Pair[] } | null} */ let now = null;
/** The answers shown, by part. @type {Map<string, { path: string, rows: Row[], asOf: number }>} */
const shown = new Map();
/** Ends everything of this token, and the questions of this view. */
let [session, loading] = [new AbortController(), new AbortController()];
let [lastTiles, lastMain, lastAccount, took, checked, keysOn, stale] = [0, 0, 0, 0, 0, true, false];
/** @type {'off' | 'live' | 'polling' | 'old'} */ let state = 'off';
/** Of questions and of the stream. @type {{ ask: Problem | null, live: Problem | null }} */
let trouble = { ask: null, live: null };

/** What the address asks for; anything else is ignored. */
const wish = new URLSearchParams(location.search);

// --- the token -----------------------------------------------------------------------------------

/** @param {string} why */
function signIn(why) {
  session.abort();
  loading.abort();
  keepToken('');
  for (const part of ['[data-all]', '[data-part="first"]', '[data-controls]', '[data-do="csv"]', '[data-do="leave"]', '[data-span]']) $(part).hidden = true;
  $('[data-part="sign"]').hidden = false;
  now = null;
  put($('[data-account]'), 'Statistics of your bots');
  put($('[data-zone]'), '');
  problem(why);
  setState('off');
  control('token').value = '';
  control('token').focus();
}

async function start() {
  const token = keptToken();
  if (!token) { signIn(''); return; }
  session.abort();
  session = new AbortController();
  const { signal } = session;
  client = new Client(token);
  [now, checked, trouble] = [null, 0, { ask: null, live: null }];
  shown.clear();
  client.trouble = (of, p) => {
    trouble[of] = p;
    problem((trouble.ask ?? trouble.live)?.words ?? '');
    marks();
  };
  $('[data-part="sign"]').hidden = true;
  put($('[data-status]'), 'Connecting');
  try {
    await readAccount(signal);
  } catch (error) { refused(error); return; }
  $('[data-controls]').hidden = $('[data-all]').hidden = $('[data-do="csv"]').hidden = $('[data-do="leave"]').hidden = $('[data-span]').hidden = false;
  load();
  void client.live(signal, { now: showNow, alive: () => { checked = client.now(); marks(); }, state: setState, refused });
  void quarters(signal);
  void ticks(signal);
}

/** @param {AbortSignal} signal */
async function readAccount(signal) {
  account = (await client.get('account', signal)).body;
  const name = account.Name || account.Account;
  put($('[data-account]'), name);
  document.title = `${name} – botstats`;
  const begin = earliest(account, today());
  put($('[data-zone]'), `Days and hours are those of the account's time zone, ${account.TimeZone}.`
    + (begin === account.FirstCompleteDate ? ` The numbers are complete from ${span(begin, begin)} on.` : ''));
  readWish();
  void first();
}

/** An answer that will not change by asking again. @param {unknown} error */
function refused(error) {
  if (!(error instanceof Problem)) { if (!session.signal.aborted) problem(String(error)); return; }
  if ([401, 403, 404].includes(error.status)) signIn(error.words);
  else problem(error.words);
}

// --- controls and address ------------------------------------------------------------------------

const today = () => local(client.now(), account.TimeZone)[0];

/** Makes the view of what the address wishes, and sets the controls to it. */
function readWish() {
  const made = viewOf(wish, account, today());
  ({ view } = made);
  if (wish.get('bot') && !view.bot) note('The bot of this address does not exist, or this token may not see it. All bots are shown.');
  options(control('bot'), [['', 'All bots'], ...account.Bots.map((x) => /** @type {[string, string]} */ ([x.BotId, x.BotName]))], view.bot);
  options(control('channel'), [['', 'All channels'], ...made.channels], view.channel);
  options(control('metric'), [...METRICS.values()].map((m) => [String(m.code), m.label]), String(view.metric));
  control('grain').value = view.grain;
  for (const option of control('grain').options) option.disabled = !made.grains.includes(option.value);
  control('compare').value = made.compare;
  for (const name of /** @type {const} */ (['from', 'to'])) Object.assign(control(name), { value: view[name], min: made.begin, max: today() });
  for (const button of document.querySelectorAll('[data-preset]')) {
    button.setAttribute('aria-pressed', String(button.getAttribute('data-preset') === made.chosen));
  }
  put($('[data-span]'), `${span(view.from, view.to)}${view.compare ? `, compared with ${view.before}${view.to === today() ? ' up to this time of day' : ''}`
    : made.compare === 'none' ? '' : ', not compared: the numbers do not reach back that far'} · ${account.TimeZone}`);
  const query = wish.toString();
  history.replaceState(null, '', location.pathname + (query ? `?${query}` : ''));
}

/** @param {Record<string, string>} changes empty: what the page chooses */
function choose(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value) wish.set(name, value);
    else wish.delete(name);
  }
  if (!account) return;
  note('');
  readWish();
  load();
}

/** @param {string} from @param {string} to */
const chooseDates = (from, to) => choose({ range: '', from, to, grain: '' });

/** The dates before or after, as many. @param {1 | -1} step */
function shift(step) {
  const n = dates(view.from, view.to) * step;
  const [from, to] = [addDays(view.from, n), addDays(view.to, n)];
  if (to >= earliest(account, today()) && from <= today()) chooseDates(from, to);
}

// --- asking --------------------------------------------------------------------------------------

/** Asks for the parts whose question has changed. @param {boolean} [again] for all of them */
function load(again = false) {
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  const [summary, ...others] = PARTS;
  const first = ask(summary, signal, again);
  for (const part of others) void ask(part, signal, again, first);
  showNow(now);
}

/**
 * @param {import('./parts.js').Part} part @param {AbortSignal} signal @param {boolean} again
 * @param {Promise<void>} [after]
 */
async function ask(part, signal, again, after) {
  const asked = view;
  const path = part.question(asked);
  const section = $(`[data-part="${part.name}"]`);
  const known = shown.get(part.name);
  if (known?.path === path && !again) { part.render(asked, mine(asked, known.rows)); section.removeAttribute('data-wait'); return; }
  if (known?.path !== path) section.setAttribute('data-wait', '');
  await after;
  try {
    const answer = await client.get(path, signal);
    took = answer.took;
    if (signal.aborted) return;
    shown.set(part.name, { path, rows: answer.body, asOf: answer.asOf });
    nothing(section, '');
    part.render(asked, mine(asked, answer.body));
    section.removeAttribute('data-wait');
    if (part.name === 'tiles') { lastTiles = Date.now(); if (!again || !$('[data-part="first"]').hidden) void first(); }
    marks();
  } catch (error) {
    if (signal.aborted || !(error instanceof Problem)) return;
    section.removeAttribute('data-wait');
    if (error.status === 401 || (error.status === 404 && !asked.bot)) { refused(error); return; }
    if (error.status === 404) {
      await sleep(1_000, signal);
      await readAccount(session.signal).then(() => load(), refused);
      return;
    }
    shown.delete(part.name);
    nothing(section, error.status === 403 && part.name === 'operators' ? 'This token may not see how operators do. An account token may, or a link made with --operators.' : error.words);
  }
}

/** Asks again for parts that are shown, if the range goes on. @param {string[]} names */
async function refresh(...names) {
  if (document.hidden || view.to < today()) return;
  await Promise.all(PARTS.filter((p) => names.includes(p.name)).map((p) => ask(p, loading.signal, true)));
}

let [due, running, every] = [false, false, NEWS_EVERY];

/** The summary follows what goes on, soon after a change but within the limit of questions. */
async function follow() {
  due = true;
  if (running) return;
  running = true;
  const { signal } = session;
  while (due && !signal.aborted) {
    due = false;
    await sleep(Math.max(lastTiles + Math.max(every, 10 * took) - Date.now(), 150), signal);
    every = NEWS_EVERY;
    const before = JSON.stringify(shown.get('tiles')?.rows);
    await refresh('tiles');
    lastTiles = Date.now();
    const asOf = shown.get('tiles')?.asOf ?? NaN;
    if (now && asOf < Date.parse(now.AsOf) && !document.hidden && view.to >= today()) [due, every] = [true, TILES_EVERY];
    if (JSON.stringify(shown.get('tiles')?.rows) !== before && Date.now() - lastMain > MAIN_EVERY) {
      lastMain = Date.now();
      void refresh('main');
    }
  }
  running = false;
}

/** Everything again after the end of each quarter of an hour. @param {AbortSignal} signal */
async function quarters(signal) {
  while (!signal.aborted) {
    await sleep(900_000 - (client.now() % 900_000) + 5_000 + Math.random() * 3_000, signal);
    if (signal.aborted) return;
    await readAccount(signal).catch(refused);
    if (!document.hidden) load(true);
    else stale = true;
  }
}

/** @param {AbortSignal} signal */
async function ticks(signal) {
  for (let n = 1; !signal.aborted; n += 1) {
    await sleep(1_000, signal);
    marks();
    if (n % 15 === 0 && (state === 'live' || state === 'polling')) void follow();
  }
}

// --- now, and the state of things ----------------------------------------------------------------

/** @param {{ Bots: Pair[] }} all */
const inView = (all) => all.Bots.filter((p) => (!view.bot || p.BotId === view.bot) && (!view.channel || p.ChannelId === view.channel));

/** @param {{ AsOf: string, Bots: Pair[] } | null} news */
function showNow(news) {
  if (!news) return;
  if (news !== now) { checked = client.now(); void follow(); }
  now = news;
  showPairs(inView(news), account.TimeZone);
  marks();
  const known = new Set(account.Bots.flatMap((b) => b.Channels.map((c) => `${b.BotId} ${c.ChannelId}`)));
  if (news.Bots.some((p) => !known.has(`${p.BotId} ${p.ChannelId}`)) && Date.now() - lastAccount > 10_000) {
    lastAccount = Date.now();
    void readAccount(session.signal).catch(refused);
  }
}

/** @param {'off' | 'live' | 'polling' | 'old'} next */
function setState(next) {
  state = next;
  marks();
}

/** Says how old the numbers are, and marks those that are old. */
function marks() {
  const old = state !== 'off' && (state === 'old' || (trouble.ask ?? trouble.live) !== null);
  const status = $('[data-status]');
  status.setAttribute('data-state', old ? 'old' : state);
  put(status, old ? 'Old numbers' : state === 'live' ? 'Live' : state === 'polling' ? 'Every 10 s' : '');
  $('main').toggleAttribute('data-old', old);
  const moment = (trouble.ask && shown.get('tiles')?.asOf) || checked;
  const [date, time] = moment ? local(moment, account.TimeZone) : ['', ''];
  put($('[data-as-of]'), state === 'off' || !moment ? '' : old ? `of ${date} ${time} ${account.TimeZone}` : `as of ${time} ${account.TimeZone}`);
}

/** @param {string} text */
function problem(text) {
  const box = $('[data-problem]');
  put(box, text && now && (trouble.ask ?? trouble.live) ? `${text} The numbers below are old.` : text);
  box.hidden = text === '';
}

/** @param {string} text */
function note(text) {
  put($('[data-note]'), text);
  $('[data-note]').hidden = text === '';
}

/** Shows how to begin while there is nothing to see. */
async function first() {
  const quiet = !now?.Bots.length && !shown.get('tiles')?.rows.some((r) => r.Count > 0);
  let none = quiet && account.Bots.every((b) => b.Channels.length === 0);
  if (quiet && !none && shown.has('tiles')) {
    const path = `data/*/3,13,100/total/*?from=${earliest(account, today())}&to=${today()}&by=none`;
    none = await client.get(path, session.signal).then(({ body }) => body.length === 0, () => false);
  }
  showFirst(account, none);
}

function download() {
  const rows = PARTS.flatMap(({ name }) => mine(view, shown.get(name)?.rows ?? []).map((row) => ({ Part: name, ...row })));
  const pairs = now ? inView(now) : [];
  const text = csv([...pairs.map((p) => ({ Part: 'now', ...p })), ...rows]);
  const url = URL.createObjectURL(new Blob([text], { type: 'text/csv;charset=utf-8' }));
  el('a', { href: url, download: `botstats-${account.Account}-${view.to}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// --- clicks and keys -----------------------------------------------------------------------------

/** @type {Record<string, [string, () => void]>} */
const KEYS = {
  d: ['Today', () => choose({ range: 'today', from: '', to: '', grain: '' })],
  e: ['Yesterday', () => choose({ range: 'yesterday', from: '', to: '', grain: '' })],
  w: ['7 days', () => choose({ range: '7', from: '', to: '', grain: '' })],
  t: ['30 days', () => choose({ range: '30', from: '', to: '', grain: '' })],
  m: ['This month', () => choose({ range: 'month', from: '', to: '', grain: '' })],
  y: ['This year', () => choose({ range: 'year', from: '', to: '', grain: '' })],
  c: ['Choose dates', () => control('from').focus()],
  x: ['Compare, or not', () => choose({ compare: view.compare ? 'none' : 'period' })],
  i: ['Next grain', () => {
    const free = [...control('grain').options].filter((o) => !o.disabled).map((o) => o.value);
    choose({ grain: free[(free.indexOf(view.grain) + 1) % free.length] });
  }],
  r: ['Ask again', () => load(true)],
  '/': ['Choose the number of the large chart', () => control('metric').focus()],
  ArrowLeft: ['The dates before', () => shift(-1)],
  ArrowRight: ['The dates after', () => shift(1)],
  '?': ['These keys', () => help()],
};

function help() {
  $('[data-keys]').replaceChildren(...Object.entries(KEYS).flatMap(([key, [text]]) => [
    el('dt', {}, el('kbd', {}, key.replace('ArrowLeft', '←').replace('ArrowRight', '→').toUpperCase())), el('dd', {}, text)]),
    el('dt', {}, el('kbd', {}, '← →')), el('dd', {}, 'In a chart: read the values'), el('dt', {}, el('kbd', {}, 'Esc')), el('dd', {}, 'Close, or leave a field'));
  /** @type {HTMLDialogElement} */ ($('[data-help]')).showModal();
}

document.addEventListener('click', (event) => {
  const button = /** @type {HTMLElement | null} */ (event.target instanceof Element ? event.target.closest('button') : null);
  if (!button) return;
  const { preset: range, metric: code, what, do: action } = button.dataset;
  if (range) choose({ range, from: '', to: '', grain: '' });
  else if (code) { choose({ metric: code }); $('[data-part="main"]').scrollIntoView({ block: 'nearest' }); }
  else if (what) explain(button, /^\d+$/.test(what) ? definition(metric(Number(what))) : OTHERS[what] ?? '');
  else if (action === 'csv') download();
  else if (action === 'help') help();
  else if (action === 'leave') signIn('');
});

$('[data-controls]').addEventListener('submit', (event) => event.preventDefault());
document.addEventListener('change', (event) => {
  const { name, value } = /** @type {HTMLInputElement} */ (event.target);
  if (name === 'keys') keysOn = control('keys').checked;
  else if (name === 'bot') choose({ bot: value, channel: '' });
  else if (['channel', 'grain', 'compare', 'metric'].includes(name)) choose({ [name]: value });
  else if ((name === 'from' || name === 'to') && isDate(value)) {
    const [from, to] = [control('from').value, control('to').value];
    if (isDate(from) && isDate(to)) chooseDates(name === 'to' && from > to ? to : from, name === 'from' && to < from ? from : to);
  }
});

$('[data-sign]').addEventListener('submit', (event) => {
  event.preventDefault();
  keepToken(control('token').value.trim());
  problem('');
  void start();
});

document.addEventListener('keydown', (event) => {
  const target = /** @type {Element} */ (event.target);
  if (event.key === 'Escape' && target instanceof HTMLElement && target.matches('input, select')) target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches('input, select, textarea')) return;
  if (document.querySelector('dialog[open]') || !keysOn) return;
  if (event.key.startsWith('Arrow') && target.closest('.scroll, pre')) return;
  const known = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!known || $('[data-controls]').hidden) return;
  event.preventDefault();
  known[1]();
});

document.addEventListener('visibilitychange', () => {
  if (document.hidden || !stale || !account) return;
  stale = false;
  load(true);
});
addEventListener('hashchange', () => { if (takeToken()) void start(); });

for (const node of document.querySelectorAll('dt[data-what]')) node.append(' ', asks(node.getAttribute('data-what') ?? '', node.textContent ?? ''));
takeToken();
void start();
