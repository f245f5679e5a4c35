// What the page does with its tab: the address, the store of the session, the stream.

import { strict as assert } from 'node:assert';
import { Look } from './look.js';
import { until } from './installation.js';

/** A hidden tab has no stream, and gets one again when it is seen. */
export async function hidden(_t, { browser, installation }) {
  const { token } = await installation.token();
  const streams = (number) => until(`${number} streams`,
    async () => await installation.metric('botstats_query_live_streams') === number);
  await streams(0);
  const look = await Look.open(browser, { url: installation.url, token });
  await look.ready();
  await streams(1);
  // Chromium that is driven calls every tab visible, so the tab is told otherwise.
  const see = (visible) => look.page.evaluate((visible) => {
    Object.defineProperty(document, 'hidden', { configurable: true, value: !visible });
    Object.defineProperty(document, 'visibilityState', { configurable: true, value: visible ? 'visible' : 'hidden' });
    document.dispatchEvent(new Event('visibilitychange'));
  }, visible);
  await see(false);
  await streams(0);
  await see(true);
  await streams(1);
  await look.status('live');
  await look.close();
  await streams(0);
}

/** The token leaves the address at once, and lives as long as the tab. The account's call stays unused. */
export async function token(_t, { browser, installation }) {
  const { token } = await installation.token();
  /** @type {() => void} */
  let answer = () => {};
  const seen = new Promise((done) => { answer = () => done(undefined); });
  const prepare = (page) => page.route('**/dashboard/account', async (route) => {
    await seen;
    await route.continue();
  });
  const look = await Look.open(browser, { url: installation.url, token, prepare });
  const address = () => look.page.evaluate(() => location.href);
  await until('an address without the token', async () => await address() === `${installation.url}/dashboard`);
  answer();
  await look.ready();
  assert.equal(await look.page.evaluate(() => sessionStorage.getItem('botstats-token')), token);
  assert.equal(await look.page.evaluate(() => localStorage.length + document.cookie.length), 0);
  assert.ok(look.requests.every((path) => !path.includes(token)), 'the token is in no address');
  await look.page.reload();
  await look.ready();
  await look.close();

  // Typed by somebody who came without one.
  const stranger = await Look.open(browser, { url: installation.url });
  await stranger.page.locator('input[name=token]').fill(installation.accounts.acme.token);
  await stranger.page.keyboard.press('Enter');
  await stranger.ready();
  await stranger.close();

  const call = `${installation.url}/analytics/statistics/account/*/100/day/1`;
  const headers = { Authorization: `Bearer ${installation.accounts.acme.token}` };
  assert.equal((await fetch(call, { headers })).status, 200, 'the page does not use the call of the account');
}

/** An account without an event is told how to begin, and sees the first event. */
export async function first(_t, { browser, installation }) {
  const { token } = await installation.token({ account: 'empty' });
  const look = await Look.open(browser, { url: installation.url, token });
  await look.page.locator('[data-part=first]').waitFor({ state: 'visible' });
  await installation.publish('message.received', { account: 'empty' });
  await until('the first conversation', async () => await look.page.locator('[data-now=Open]').innerText() === '1');
  await look.page.locator('[data-part=tiles]').waitFor({ state: 'visible' });
  await look.close();
}
