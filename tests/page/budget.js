// What the page weighs, and how soon it shows numbers.

import { strict as assert } from 'node:assert';
import { Look } from './look.js';
import { until } from './installation.js';

const MAX_BYTES = 60_000;
const MAX_REQUESTS = 8;

/** Notes when the first number is in a tile; runs in the page before its own scripts. */
export function note() {
  const observer = new MutationObserver(() => {
    const shown = [...document.querySelectorAll('[data-value]')].some((value) => /\d/.test(value.textContent ?? ''));
    if (!shown) return;
    observer.disconnect();
    performance.mark('first-number');
  });
  observer.observe(document, { childList: true, subtree: true, characterData: true });
}

/** Milliseconds from the page's load event to the first number that it shows. */
export async function firstNumber(look) {
  const found = await until('the first number', () => look.page.evaluate(() => {
    const [mark] = performance.getEntriesByName('first-number');
    const [navigation] = performance.getEntriesByType('navigation');
    return mark ? { ms: Math.round(mark.startTime - /** @type {any} */ (navigation).loadEventEnd) } : null;
  }));
  return found.ms;
}

export async function budget(t, { browser, installation }) {
  const { token } = await installation.token();
  /** @type {Map<string, { url: string, bytes: number }>} */
  const transfers = new Map();
  const prepare = async (page) => {
    await page.addInitScript(note);
    const network = await page.context().newCDPSession(page);
    await network.send('Network.enable');
    network.on('Network.requestWillBeSent', ({ requestId, request }) => {
      if (!request.url.startsWith('data:')) transfers.set(requestId, { url: request.url, bytes: 0 });
    });
    network.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
      const transfer = transfers.get(requestId);
      if (transfer) transfer.bytes = encodedDataLength;
    });
  };
  const look = await Look.open(browser, { url: installation.url, token, prepare });
  await look.ready();
  const ofPage = [...transfers.values()].filter(({ url }) =>
    !/\/dashboard\/(data\/.*|account|now|live)$/.test(new URL(url).pathname));
  const bytes = ofPage.reduce((sum, transfer) => sum + transfer.bytes, 0);
  const list = ofPage.map((transfer) => `${transfer.bytes} ${new URL(transfer.url).pathname}`).join(', ');
  t.diagnostic(`${bytes} bytes in ${ofPage.length} requests: ${list}`);
  t.diagnostic(`first numbers ${await firstNumber(look)} ms after load`);
  await look.close();
  assert.ok(ofPage.every((transfer) => transfer.bytes > 0), `not all loaded: ${list}`);
  assert.ok(bytes <= MAX_BYTES, `${bytes} bytes: ${list}`);
  assert.ok(ofPage.length <= MAX_REQUESTS, `${ofPage.length} requests: ${list}`);
}
