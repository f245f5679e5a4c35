// axe-core finds nothing, whatever the page looks like; and nothing needs sideways scrolling.

import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { Look } from './look.js';

const LOOKS = {
  light: { colorScheme: 'light' },
  dark: { colorScheme: 'dark' },
  '320 px': { viewport: { width: 320, height: 640 } },
  'forced colours': { forcedColors: 'active' },
};

const axe = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

/** The violations, a line each. @param {import('playwright-core').Page} page */
async function violations(page) {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (globalThis).axe.run();
    return violations.flatMap((violation) => violation.nodes.map((node) =>
      `${violation.id} at ${node.target.join(' ')}: ${node.failureSummary.replaceAll('\n', ' ')}`));
  });
}

export async function accessible(t, { browser, installation }) {
  const found = [];
  for (const [name, context] of Object.entries(LOOKS)) {
    const { token } = await installation.token();
    const look = await Look.open(browser, { url: installation.url, token, context });
    await look.complete();
    const check = async (state) => {
      found.push(...(await violations(look.page)).map((line) => `${name}, ${state}: ${line}`));
    };
    await check('all numbers');
    const overflow = await look.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (overflow > 0) found.push(`${name}: ${overflow} px wider than the window`);
    for (const button of await look.page.locator('[data-as-table]').all()) await button.click();
    for (const summary of await look.page.locator('summary').all()) await summary.click();
    await check('tables');
    await look.page.keyboard.press('?');
    await look.page.locator('dialog[open]').waitFor();
    await check('keys');
    await look.close();

    const stranger = await Look.open(browser, { url: installation.url, context });
    await stranger.page.locator('input[name=token]').waitFor();
    found.push(...(await violations(stranger.page)).map((line) => `${name}, without a token: ${line}`));
    await stranger.close();
  }
  t.diagnostic(`${found.length} findings`);
  assert.deepEqual(found, []);
}
