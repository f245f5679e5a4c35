// Programs end and come back, and the service refuses: the page says so, and goes on.

import { strict as assert } from 'node:assert';
import { Look } from './look.js';
import { until } from './installation.js';

/** Both programs without which nothing is answered, killed and started again. */
export async function outages(t, { browser, installation }) {
  const { token } = await installation.token();
  const look = await Look.open(browser, { url: installation.url, token, refusals: true });
  await look.ready();
  for (const program of ['query', 'nats']) {
    const shown = await look.page.locator('[data-value]').allInnerTexts();
    await installation.kill(program);
    await look.status('old');
    await look.problem(/\S/);
    assert.deepEqual(await look.page.locator('[data-value]').allInnerTexts(), shown, 'old numbers stay');
    const status = await look.page.locator('[data-status]').innerText();
    assert.match(status, /\bold\b|since/i, 'old numbers are marked in words');
    await installation.start(program);
    const began = performance.now();
    await look.status('live');
    t.diagnostic(`live ${Math.round(performance.now() - began)} ms after the start of ${program}`);
    // It is no old state: an event of now is shown.
    await installation.publish('message.received', { conversation: `after ${program}` });
    const answer = await installation.now(token);
    const open = String(answer.Bots.reduce((sum, pair) => sum + pair.Open, 0));
    await until(`${open} open`, async () => (await look.page.locator('[data-now=Open]').innerText()) === open);
    await until('no problem', async () => await look.page.locator('[data-problem]:visible').count() === 0);
  }
  await look.close();
}

/** A page that is open when its token ends. */
export async function revoked(_t, { browser, installation }) {
  const { token, ends } = await installation.token();
  const look = await Look.open(browser, { url: installation.url, token, refusals: true });
  await look.ready();
  await ends();
  await look.problem(/revoked|expired|not valid/i);
  await look.close();
}

export async function refusals(_t, { browser, installation }) {
  const open = (token) => Look.open(browser, { url: installation.url, token, refusals: true });
  const check = async (token, words) => {
    const look = await open(token);
    await look.problem(words);
    await look.close();
  };
  // 401, and 403: a bot's token asks another path.
  await check('bst_nobody', /not valid|unknown/i);
  await check(installation.accounts.acme.bots.b1, /not for this page|may not/i);

  // 404: the account is gone.
  await installation.put('account.gone', { timezone: 'UTC', tokens: [] });
  const { token: gone } = await installation.token({ account: 'gone' });
  await installation.put('account.gone', { timezone: 'UTC', tokens: [], removed: true });
  await until('404', async () => (await installation.ask('account', gone)).status === 404);
  await check(gone, /does not exist|removed|no such/i);

  // 429: somebody else at this address has used up the questions of the token.
  const { token: busy } = await installation.token();
  await until('429', async () => (await installation.ask('account', busy)).status === 429);
  const look = await open(busy);
  await look.problem(/more questions|too many|wait/i);
  await look.close();

  // 503: nobody counts.
  const { token } = await installation.token();
  await installation.kill('ingest');
  const waiting = await open(token);
  await waiting.problem(/cannot answer|not available|cannot be reached/i);
  await installation.start('ingest');
  await waiting.ready();
  await waiting.close();
}
