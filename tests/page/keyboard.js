// Everything works with the keyboard alone: each control is reached and is seen when it is, each
// single key does what the list of keys says, and a chart speaks its values.

import { strict as assert } from 'node:assert';
import { Look } from './look.js';
import { until } from './installation.js';

/** What can be used with a pointer, and must be reached by Tab. Runs in the page. */
function usable() {
  const all = document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]');
  return [...all].filter((element) => /** @type {HTMLElement} */ (element).tabIndex >= 0
    && !(/** @type {any} */ (element).disabled) && element.checkVisibility({ visibilityProperty: true }));
}

/** How an element is named in an error. */
const NAME = (element) => {
  const { id, outerHTML } = element;
  return id ? `#${id}` : outerHTML.slice(0, outerHTML.indexOf('>') + 1) + element.textContent.trim().slice(0, 30);
};

/** Why somebody could not see that this element has the focus, or the empty text. Runs in the page. */
function unseen(element) {
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const marked = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none';
  if (!marked) return 'is not marked';
  if (box.bottom <= 0 || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth) return 'is outside the window';
  const points = [[0.5, 0.5], [0.1, 0.5], [0.9, 0.5], [0.5, 0.1], [0.5, 0.9]];
  const hit = points.some(([x, y]) => {
    const top = document.elementFromPoint(box.left + x * box.width, box.top + y * box.height);
    return top && (element.contains(top) || top.contains(element));
  });
  return hit ? '' : 'is covered';
}

/** Walks by Tab until all controls had the focus. */
async function walk(look) {
  const { page } = look;
  const controls = await page.evaluateHandle(usable);
  const number = await controls.evaluate((list) => list.length);
  const reached = new Set();
  const found = [];
  await page.evaluate(() => /** @type {any} */ (document.activeElement)?.blur());
  // A field of a date has several places for Tab.
  for (let presses = 0; presses < 5 * number + 20 && reached.size < number; presses += 1) {
    await page.keyboard.press('Tab');
    const at = await controls.evaluate((list) => list.indexOf(document.activeElement));
    if (at < 0 || reached.has(at)) continue;
    reached.add(at);
    const focused = await controls.evaluateHandle((list, at) => list[at], at);
    const why = await focused.evaluate(unseen);
    if (why) found.push(`${await focused.evaluate(NAME)} ${why}`);
  }
  for (let at = 0; at < number; at += 1) {
    if (!reached.has(at)) {
      const missed = await controls.evaluateHandle((list, at) => list[at], at);
      found.push(`${await missed.evaluate(NAME)} is not reached`);
    }
  }
  return { number, found };
}

/** The controls and the focus. Runs in the page. */
function state() {
  const value = (name) => /** @type {any} */ (document.querySelector(`[name=${name}]`)).value;
  const names = ['from', 'to', 'bot', 'channel', 'grain', 'compare', 'metric'];
  return { ...Object.fromEntries(names.map((name) => [name, value(name)])), focus: document.activeElement?.getAttribute('name') };
}

/** The number of dates. */
const days = ({ from, to }) => Math.round((Date.parse(to) - Date.parse(from)) / 86_400_000) + 1;

/** What each key must do to the controls. */
const KEYS = {
  d: (now) => days(now) === 1,
  e: (now, before) => days(now) === 1 && now.to < before.to,
  w: (now) => days(now) === 7,
  t: (now) => days(now) === 30,
  m: (now) => now.from.endsWith('-01') && now.from.slice(0, 7) === now.to.slice(0, 7),
  y: (now) => now.from.endsWith('-01-01'),
  x: (now, before) => (now.compare === 'none') !== (before.compare === 'none'),
  ArrowLeft: (now, before) => now.to < before.to && days(now) === days(before),
  ArrowRight: (now, before) => now.to > before.to && days(now) === days(before),
  i: (now, before) => now.grain !== before.grain,
  c: (now) => now.focus === 'from',
  '/': (now) => now.focus === 'metric',
};

async function keys(look) {
  const { page } = look;
  await page.keyboard.press('w');
  for (const [key, does] of Object.entries(KEYS)) {
    if (key === 'ArrowLeft') await page.keyboard.press('w');
    const before = await page.evaluate(state);
    await page.keyboard.press(key);
    let now;
    await until(`key ${key}`, async () => does(now = await page.evaluate(state), before),
      () => `from ${JSON.stringify(before)} to ${JSON.stringify(now)}`);
    if (['from', 'metric'].includes(now.focus)) await page.keyboard.press('Escape');
  }
  const asked = look.requests.length;
  await page.keyboard.press('r');
  await until('key r asks again', async () => look.requests.length > asked);

  await page.keyboard.press('?');
  const dialog = page.locator('dialog[open]');
  await dialog.waitFor();
  const listed = (await dialog.locator('kbd').allInnerTexts()).map((text) => text.trim().toLowerCase());
  const wanted = [...Object.keys(KEYS), 'r', '?'].map((key) => key.replace('ArrowLeft', '←').replace('ArrowRight', '→').toLowerCase());
  assert.deepEqual(wanted.filter((key) => !listed.includes(key)), [], `keys that ${listed} lacks`);
  const known = [...wanted, '← →', 'esc'];
  assert.deepEqual(listed.filter((key) => !known.includes(key)), [], 'listed keys that are not tested');
  // Keys of the page mean nothing while the dialog is open.
  const before = await page.evaluate(state);
  await page.keyboard.press('d');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  assert.equal((await page.evaluate(state)).from, before.from);
}

async function charts(look) {
  const { page } = look;
  await page.keyboard.press('w');
  const figure = page.locator('figure[data-chart=main]');
  const chart = figure.locator('[tabindex="0"]:visible').first();
  await until('a chart of seven days', async () => await figure.locator('tbody tr').count() === 7);
  const cells = await figure.locator('tbody tr').evaluateAll((lines) =>
    lines.map((line) => [...line.children].map((cell) => cell.textContent ?? '')));
  await chart.focus();
  const spoken = page.locator('[data-speak]');
  for (const [key, place] of [['Home', 0], ['ArrowRight', 1], ['ArrowRight', 2], ['ArrowLeft', 1], ['End', 6]]) {
    await page.keyboard.press(String(key));
    const [when, value] = cells[place];
    let last = '';
    await until(`${key} speaks ${when} ${value}`, async () => {
      last = await spoken.textContent() ?? '';
      return last.includes(when) && last.includes(value);
    }, () => `but "${last}"`);
  }
  // As a table, and back.
  const button = figure.locator('[data-as-table]');
  await button.focus();
  await page.keyboard.press('Enter');
  await figure.locator('table').waitFor({ state: 'visible' });
  await page.keyboard.press('Enter');
  await figure.locator('table').waitFor({ state: 'hidden' });
  // A definition, and away.
  const ask = page.locator('[data-tile] button[data-what]').first();
  await ask.focus();
  await page.keyboard.press('Enter');
  const definition = page.locator('[data-definition]');
  await definition.waitFor({ state: 'visible' });
  assert.match(await definition.innerText(), /\w/);
  await page.keyboard.press('Escape');
  await definition.waitFor({ state: 'hidden' });
}

export async function keyboard(t, { browser, installation }) {
  const { token } = await installation.token();
  // Many views at once may be more questions than the service allows a minute.
  const look = await Look.open(browser, { url: installation.url, token, refusals: true });
  await look.complete();
  const { number, found } = await walk(look);
  t.diagnostic(`${number} controls`);
  assert.ok(number >= 20, 'a page with controls');
  assert.deepEqual(found, []);
  await charts(look);
  await keys(look);
  await look.close();

  const stranger = await Look.open(browser, { url: installation.url });
  await stranger.page.locator('input[name=token]').waitFor();
  assert.deepEqual((await walk(stranger)).found, []);
  await stranger.close();
}
