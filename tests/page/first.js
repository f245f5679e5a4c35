// How soon the page of a running installation shows numbers:
//
//     node first.js LINK
//
// The link is one that `botstats token add ACCOUNT --view` or `botstats up --demo` prints. .ci/page gives the environment
// its variables. The first round is left out: it starts the browser.

import { firstNumber, note } from './budget.js';
import { launch, Look } from './look.js';

const ROUNDS = 7;

const [link] = process.argv.slice(2);
const { origin, hash } = new URL(link);
const browser = await launch(process.env.PAGE_CHROMIUM);
try {
  const times = [];
  for (let round = 0; round <= ROUNDS; round += 1) {
    const prepare = (page) => page.addInitScript(note);
    const look = await Look.open(browser, { url: origin, token: hash.slice(1), prepare });
    times.push(await firstNumber(look));
    await look.close();
  }
  const sorted = times.slice(1).sort((a, b) => a - b);
  console.log(`first numbers after load: median ${sorted[ROUNDS >> 1]} ms (${sorted[0]} to ${sorted[ROUNDS - 1]})`);
} finally {
  await browser.close();
}
