// A chart that was a table for a while is drawn as one that never was.

import { strict as assert } from 'node:assert';
import { Look } from './look.js';
import { until } from './installation.js';

/** The picture of the large chart as it is drawn. Runs in the page. */
const picture = () => /** @type {HTMLCanvasElement} */ (document.querySelector('figure[data-chart=main] canvas')).toDataURL();

export async function charts(t, { browser, installation }) {
  const { token } = await installation.token();
  const look = await Look.open(browser, { url: installation.url, token, refusals: true });
  const { page } = look;
  const figure = page.locator('figure[data-chart=main]');
  const button = figure.locator('[data-as-table]');
  await page.locator('[data-preset="7"]').click();

  const compare = async (name, columns) => {
    await page.locator('[name=compare]').selectOption(name);
    await until(`${columns} columns`, async () => await figure.locator('thead th').count() === columns);
  };
  const pictures = new Set();
  for (const [what, change] of /** @type {[string, () => Promise<void>][]} */ ([
    ['compared', () => compare('week', 4)],
    ['not compared', () => compare('none', 2)],
    ['in the dark', () => page.emulateMedia({ colorScheme: 'dark' })],
  ])) {
    await button.click();
    await change();
    await button.click();
    await look.complete();
    const again = await page.evaluate(picture);
    await page.reload();
    await look.complete();
    await until('the chart', () => figure.locator('canvas').count());
    assert.ok(await page.evaluate(picture) === again, `${what}: another chart is drawn`);
    pictures.add(again);
  }
  assert.equal(pictures.size, 3, 'three different charts');
  await look.close();
}
