// Names are text, whatever stands in them.

import { strict as assert } from 'node:assert';
import { Look } from './look.js';
import { until } from './installation.js';

const NAME = '<img src=x onerror=alert(1)>';

export async function hostile(_t, { browser, installation }) {
  await installation.put('account.hostile', { name: NAME, timezone: 'UTC', tokens: [] });
  await installation.put('bot.hostile.b1', { name: NAME, channels: { web: NAME } });
  await installation.put('operators.hostile', { o1: NAME });
  const publish = (type, data = {}) => installation.publish(type, { account: 'hostile', data });
  await publish('message.received');
  await publish('goal.reached', { goal: NAME });
  await publish('tag.set', { tag: NAME });
  await publish('nlp.evaluated', { detected: true, intent: NAME });
  await publish('integration.called', { kind: 'api', name: NAME, ok: true });
  await publish('operator.requested');
  await publish('operator.joined', { operatorid: 'o1' });
  await publish('operator.message', { operatorid: 'o1' });
  const { token } = await installation.token({ account: 'hostile' });
  const look = await Look.open(browser, { url: installation.url, token });
  await look.ready();
  for (const part of ['goals', 'tags', 'intents', 'integrations', 'operators', 'bots']) {
    const section = look.page.locator(`[data-part=${part}]`);
    let last = '';
    await until(`the name in ${part}`, async () => (last = await section.innerText()).includes(NAME), () => `but ${last}`);
  }
  const options = await look.page.locator('select[name=bot] option').allInnerTexts();
  assert.ok(options.includes(NAME), `the name in ${options}`);
  assert.equal(await look.page.locator('img').count(), 0, 'no name became an element');
  await look.close();
}
