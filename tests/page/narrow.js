// What a token that sees little shows, and what is downloaded.

import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { Look } from './look.js';
import { until } from './installation.js';

/** A token for one bot, without operators: nothing of the others, and words where operators would be. */
export async function narrow(_t, { browser, installation }) {
  const { token } = await installation.token({ bots: ['b2'], operators: false });
  const look = await Look.open(browser, { url: installation.url, token, refusals: true });
  await look.ready();
  const operators = look.page.locator('[data-part=operators]');
  await until('words about operators', async () => /may not see/i.test(await operators.innerText()));
  await until('lines of bots', async () => await look.page.locator('[data-table=bots] tbody tr').count() > 0);
  const text = await look.page.locator('body').innerText();
  for (const name of ['Pizza', 'Ann', 'Bob']) assert.ok(!text.includes(name), `${name} is shown`);
  assert.ok(text.includes('Taxi'));
  await look.close();
}

/** The download has the rows that are shown, and no cell that a spreadsheet would take for a formula. */
export async function download(_t, { browser, installation }) {
  await installation.put('account.formula', { timezone: 'UTC', tokens: [] });
  await installation.put('bot.formula.b1', { name: '=1+1', channels: { web: '"Web", b' } });
  await installation.publish('message.received', { account: 'formula' });
  await installation.publish('goal.reached', { account: 'formula', data: { goal: '@SUM(A1)' } });
  const { token } = await installation.token({ account: 'formula' });
  const look = await Look.open(browser, { url: installation.url, token });
  await look.ready();
  await until('the goal', async () => (await look.page.locator('[data-part=goals]').innerText()).includes('@SUM(A1)'));
  await until('the bot', async () => (await look.page.locator('[data-part=bots]').innerText()).includes('=1+1'));
  const [file] = await Promise.all([look.page.waitForEvent('download'), look.page.locator('[data-do=csv]').click()]);
  const lines = (await readFile(await file.path(), 'utf8')).split('\r\n');
  const goal = lines.find((line) => line.startsWith('goals,current,') && line.includes(",'@SUM(A1),")) ?? '';
  assert.match(goal, /,Goal Reached,12,1,1,1,count,/, lines.join('\n'));
  const bot = lines.find((line) => line.startsWith('bots,') && line.includes(',"""Web"", b",') && line.includes(',Conversations,')) ?? '';
  assert.match(bot, /,'=1\+1,/, lines.join('\n'));
  assert.ok(lines.every((line) => !/(^|,)"?[=+@-]\D/.test(line)), lines.join('\n'));
  await look.close();
}
