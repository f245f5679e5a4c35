// Writes the README's picture of the demo, and the whole page at all sizes, into a folder:
//
//     node pictures.js FOLDER
//
// .ci/page gives the environment its variables.

import { setTimeout as sleep } from 'node:timers/promises';
import { demo } from './demo.js';
import { launch } from './look.js';
import { screenshots, small } from './screenshots.js';

/** The live traffic of the demo looks like itself only after a while, in milliseconds. */
const WARM_UP = 20_000;

const [folder] = process.argv.slice(2);
const running = await demo(process.env.PAGE_DEMO);
const browser = await launch(process.env.PAGE_CHROMIUM);
try {
  await sleep(WARM_UP);
  await small(browser, running.url, running.token, folder);
  const files = await screenshots(browser, running.url, running.token, process.env.PAGE_SCREENSHOTS, 'demo');
  console.log(files.join('\n'));
} finally {
  await browser.close();
  await running.stop();
}
