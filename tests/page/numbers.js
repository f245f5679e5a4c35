// Every number on the page is the one that the service answers: the test asks the same questions
// itself, and compares all tiles and cells, as raw values and as text.

import { strict as assert } from 'node:assert';
import { Look } from './look.js';
import { PATIENCE, until } from './installation.js';
import { reads } from './text.js';

/** Codes of kind *duration*, of which the page shows the median. */
const DURATIONS = [8, 9, 11, 16, 105, 106, 107];
/** What the page shows one after the other: controls and their values. */
/** What is chosen one after the other, for each page that is opened: a token may ask 120 questions in a minute. */
const PAGES = [
  [{}, { bot: 'b1', channel: 'web' }, { bot: '', channel: '' }],
  [{ preset: '7', grain: 'hour', metric: '9', compare: 'week' }],
  [{ preset: '30', grain: 'week', metric: '101', compare: 'month' }],
  [{ preset: 'today', grain: '15min', metric: '104', compare: 'none' }],
];
const DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

/** All tables and tiles. Runs in the page. */
function shown() {
  const cell = (element) => ({
    key: element.getAttribute('data-key'), code: element.getAttribute('data-code'),
    raw: element.getAttribute('data-raw'), text: element.querySelector('.num')?.textContent ?? element.textContent,
  });
  const tiles = [...document.querySelectorAll('[data-tile]')].map((tile) => ({
    ...cell(tile.querySelector('[data-value]')), code: tile.getAttribute('data-tile'),
    before: tile.querySelector('[data-before]').textContent, change: tile.querySelector('[data-change]').textContent,
  }));
  const tables = [...document.querySelectorAll('[data-table]')].map((table) => [
    table.getAttribute('data-table'),
    table.parentElement.hidden && !table.closest('figure') ? [] : [...table.querySelectorAll('tbody tr')].map((tr) => ({
      head: tr.querySelector('th').textContent,
      cells: [...tr.querySelectorAll('td')].map(cell).filter(({ code }) => code !== null),
    })),
  ]);
  const now = [...document.querySelectorAll('[data-now]')].map((number) =>
    [number.getAttribute('data-now'), number.textContent]);
  return { tiles, tables: Object.fromEntries(tables), now: Object.fromEntries(now) };
}

/** What the controls say. Runs in the page. */
function controls() {
  const value = (name) => /** @type {any} */ (document.querySelector(`[name=${name}]`)).value;
  const names = ['from', 'to', 'bot', 'channel', 'grain', 'compare', 'metric'];
  return Object.fromEntries(names.map((name) => [name, value(name)]));
}

/** The answers to what the page shows, and what its cells must therefore say. */
class Expected {
  static async of(installation, token, view) {
    const by = view.channel ? 'channel' : 'none';
    const compare = view.compare && view.compare !== 'none' ? { previous: view.compare } : {};
    const ask = async (codes, mode, more) => {
      const parameters = new URLSearchParams({ from: view.from, to: view.to, by, ...more });
      const path = `${view.bot || '*'}/${codes}/${mode}/*?${parameters}`;
      const rows = await installation.rows(path, token);
      return rows.filter((row) => !view.channel || row.ChannelId === view.channel);
    };
    const metric = Number(view.metric);
    const stats = { stats: 'p50,p90' };
    const ofMetric = DURATIONS.includes(metric) ? stats : {};
    const fill = { fill: 'zero' };
    const made = new Expected();
    made.metric = metric;
    made.compared = 'previous' in compare;
    made.tiles = await ask('0,2,3,5,9,12,13,100,101', 'total', { ...compare, ...stats });
    made.main = await ask(metric, view.grain, { ...compare, ...fill, ...ofMetric });
    made.users = await ask('0,1', view.grain, fill);
    made.nlp = await ask('3,5,6,7', view.grain, fill);
    made.support = await ask('9,105,106', view.grain, { ...fill, ...stats });
    made.heat = await ask(metric, 'weekhour', { ...fill, ...ofMetric });
    made.goals = await ask('12', 'total', { split: 'goal', top: '20', ...compare });
    made.tags = await ask('18', 'total', { split: 'tag', top: '20', ...compare });
    made.intents = await ask('6,7', 'total', { split: 'intent', top: '20' });
    made.integrations = await ask('4,14,15,107', 'total', { split: 'integration', top: '20', ...stats });
    made.operators = await ask('9,11,16,17,106', 'total', { split: 'operator', top: '20', ...stats });
    made.bots = await ask('2,12,13,100,101,105', 'total', { by: 'bot,channel', ...stats });
    return made;
  }

  /** Each difference between the page and the answers, a line each. */
  differences(page) {
    const found = [];
    const same = (where, cell, wanted) => {
      const raw = cell.raw === '' || cell.raw === null ? null : Number(cell.raw);
      if (raw !== wanted && !(Math.abs(raw - wanted) < 1e-9)) found.push(`${where}: ${cell.raw}, the answer has ${wanted}`);
      else if (!reads(cell.text, wanted)) found.push(`${where}: the text "${cell.text}" for ${wanted}`);
    };
    for (const tile of page.tiles) {
      const now = number(this.tiles, tile.code, 'current');
      const before = number(this.tiles, tile.code, 'previous');
      same(`tile ${tile.code}`, tile, now);
      const was = tile.before.replace(/^was /, '');
      if (this.compared && before !== null && !reads(was, before)) found.push(`tile ${tile.code}: "${tile.before}" for ${before}`);
      if (!this.compared && tile.before + tile.change !== '') found.push(`tile ${tile.code} compares with nothing`);
      const rises = now !== null && before !== null && now > before + 0.05;
      if (this.compared && rises !== /^▲/.test(tile.change)) found.push(`tile ${tile.code}: ${before} to ${now} is "${tile.change}"`);
    }
    const tables = {
      main: groups(this.main), users: groups(this.users), nlp: groups(this.nlp),
      pickup: groups(only(this.support, 9)), operatorreply: groups(only(this.support, 106)), botreply: groups(only(this.support, 105)),
      heat: week(this.heat), goals: names(this.goals), tags: names(this.tags), intents: names(this.intents),
      integrations: names(this.integrations), operators: names(this.operators), bots: names(this.bots),
    };
    for (const [name, lines] of Object.entries(tables)) {
      const got = page.tables[name];
      if (!got) {
        found.push(`no table ${name}`);
        continue;
      }
      if (got.length !== lines.length) found.push(`table ${name}: ${got.length} lines, the answer has ${lines.length}`);
      got.forEach((line, place) => {
        const wanted = lines.find((wanted) => wanted.key !== undefined && wanted.key === line.cells[0]?.key) ?? lines[place];
        if (!wanted) return;
        if (!line.head.includes(wanted.head)) found.push(`table ${name}: "${line.head}" instead of "${wanted.head}"`);
        line.cells.forEach((cell, n) => same(`table ${name}, ${line.head}, ${cell.code}`, cell, wanted.of(cell.code, n)));
      });
    }
    return found;
  }
}

const only = (rows, code) => rows.filter((row) => row.EventType === code);

const share = (part, all) => (all === 0 ? null : (100 * part) / all);

/** The number of a code among rows, as the page shows it; no row of a count is a 0. */
function number(rows, code, period = 'current') {
  const at = rows.filter((row) => (row.Period ?? 'current') === period);
  const of = (code) => at.find((row) => row.EventType === code);
  const sum = (code) => of(code)?.Sum ?? 0;
  switch (code) {
    case 'fallback': return share(sum(5), sum(3));
    case 'recognition': return share(sum(6), sum(6) + sum(7));
    case 'Error share': return share(sum(15), sum(14));
    default: break;
  }
  const [plain, kind] = code.split('-');
  if (kind === 'before') return number(rows, plain, 'previous');
  const row = of(Number(plain));
  if (kind === 'p90') return row?.P90 ?? null;
  if (DURATIONS.includes(Number(plain))) return row?.P50 ?? null;
  if (row) return row.Value;
  return [10, 101, 102, 103, 104, 108].includes(Number(plain)) ? null : 0;
}

/** Lines of a chart's table: a group each, the earlier window beside it by position. */
function groups(rows) {
  const of = (period) => {
    const inPeriod = rows.filter((row) => (row.Period ?? 'current') === period);
    return [...new Set(inPeriod.map((row) => row.GroupStart))].map((start) => inPeriod.filter((row) => row.GroupStart === start));
  };
  const before = of('previous');
  return of('current').map((at, place) => ({
    // The day of the month, or the number of the week.
    head: String(Number(at[0].GroupLabel.match(/-W?(\d\d)(T|$)/)?.[1] ?? at[0].GroupLabel.slice(0, 4))),
    of: (code) => {
      const missing = code.endsWith('-before') && !before[place];
      return missing ? null : number([...at, ...(before[place] ?? [])], code);
    },
  }));
}

/** The lines of the week: days of hours. */
function week(rows) {
  if (!rows.some((row) => row.Value)) return [];
  return DAYS.map((day) => ({
    key: day,
    head: day,
    of: (code, hour) => {
      const row = rows.find((row) => row.GroupLabel === `${day} ${String(hour).padStart(2, '0')}`);
      return row ? number([row], code) : null;
    },
  }));
}

/** Lines of a table of names, or of bots by channels. */
function names(rows) {
  const key = (row) => JSON.stringify(row.SplitBy ? [row.SplitId, row.SplitName] : [row.BotId, row.ChannelId]);
  return [...new Set(rows.filter((row) => row.Count > 0).map(key))].map((id) => {
    const at = rows.filter((row) => key(row) === id);
    return { key: id, head: at[0].SplitName ?? at[0].BotName, of: (code) => number(at, code) };
  });
}

/** Sets the controls. */
async function choose(page, { preset, ...selects }) {
  if (preset) await page.locator(`[data-preset="${preset}"]`).click();
  for (const [name, value] of Object.entries(selects)) await page.locator(`select[name=${name}]`).selectOption(value);
}

export async function numbers(t, { browser, installation }) {
  for (const views of PAGES) {
    const { token } = await installation.token();
    const look = await Look.open(browser, { url: installation.url, token });
    await look.ready();
    for (const view of views) await compare(t, look, installation, view);
    const questions = look.requests.filter((path) => path.startsWith('/dashboard/data/')).length;
    t.diagnostic(`${questions} questions`);
    await look.close();
  }
}

/** Chooses a view, and waits until all its numbers are those of the answers. */
async function compare(t, look, installation, view) {
  await choose(look.page, view);
  // Questions of the test do not use up those of the page.
  const { token } = await installation.token();
  const end = performance.now() + PATIENCE;
  let differences;
  do {
    const chosen = await look.page.evaluate(controls);
    const expected = await Expected.of(installation, token, chosen);
    let page;
    const again = performance.now() + 8_000;
    do {
      page = await look.page.evaluate(shown);
      differences = expected.differences(page);
      if (differences.length > 0) await look.page.waitForTimeout(100);
    } while (differences.length > 0 && performance.now() < again);
    const cells = Object.values(page.tables).flatMap((lines) => lines.flatMap((line) => line.cells));
    const some = cells.filter((cell) => cell.raw !== '' && cell.raw !== '0').length;
    if (differences.length === 0) {
      t.diagnostic(`${JSON.stringify(view)}: ${page.tiles.length} tiles, ${cells.length} cells, ${some} of them not zero`);
      assert.ok(page.tiles.length >= 8 && some >= 20, 'a page with numbers');
    }
  } while (differences.length > 0 && performance.now() < end);
  assert.deepEqual(differences, [], JSON.stringify(view));
}

/** An event appears in *now* and in its tile, without a reload. */
export async function live(t, { browser, installation }) {
  const { token } = await installation.token();
  const { token: other } = await installation.token();
  const look = await Look.open(browser, { url: installation.url, token });
  await look.ready();
  const text = (selector) => look.page.locator(selector).innerText();
  const names = ['Open', 'Waiting', 'WaitingActive', 'WithOperator', 'WithBot', 'Unanswered'];
  /** The sums, if the page has all numbers of the answer. */
  const equal = async () => {
    const { Bots } = await installation.now(other);
    const sums = Object.fromEntries(names.map((name) => [name, String(Bots.reduce((sum, pair) => sum + pair[name], 0))]));
    const { now, tables } = await look.page.evaluate(shown);
    const cells = tables.now.flatMap((line) => line.cells.map(({ key, code, raw }) => `${key} ${code} ${raw ?? ''}`));
    const answered = Bots.flatMap((pair) => [...names, 'OldestRequest'].map((name) =>
      `${JSON.stringify([pair.BotId, pair.ChannelId])} ${name} ${pair[name] ?? ''}`));
    const same = names.every((name) => now[name] === sums[name]) && cells.toSorted().join() === answered.toSorted().join();
    // The service answers a person's questions, not a loop's.
    return same ? sums : look.page.waitForTimeout(1_000).then(() => null);
  };
  const before = await until('now as it is answered', equal);
  const messages = Number((await text('[data-tile="13"] [data-value]')).replaceAll(',', ''));
  const began = performance.now();
  const since = () => Math.round(performance.now() - began);
  await installation.publish('message.received', { conversation: 'seen live' });
  const appears = { now: 0, tile: 0 };
  await Promise.all([
    until('the event in now', async () => await text('[data-now=Open]') === String(Number(before.Open) + 1)).then(() => { appears.now = since(); }),
    until('the event in its tile', async () =>
      await text('[data-tile="13"] [data-value]') === String(messages + 1)).then(() => { appears.tile = since(); }),
  ]);
  t.diagnostic(`an event is in now after ${appears.now} ms, in its tile after ${appears.tile} ms`);
  // An operator is asked for, and joins.
  await installation.publish('operator.requested', { conversation: 'seen live' });
  await until('one who waits', async () => await text('[data-now=Waiting]') === String(Number(before.Waiting) + 1));
  await installation.publish('operator.joined', { conversation: 'seen live', data: { operatorid: 'o1' } });
  await until('now as it is answered', equal);
  assert.equal(await text('[data-now=WithOperator]'), String(Number(before.WithOperator) + 1));
  await look.close();
}
