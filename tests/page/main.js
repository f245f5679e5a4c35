// Tests the page with Chromium, or takes pictures of it: see .ci/page, which gives the environment
// its variables.

import { after, afterEach, before, test } from 'node:test';
import { accessible } from './accessible.js';
import { budget } from './budget.js';
import { charts } from './charts.js';
import { hostile } from './hostile.js';
import { anHour } from './hour.js';
import { Installation } from './installation.js';
import { keyboard } from './keyboard.js';
import { launch } from './look.js';
import { live, numbers } from './numbers.js';
import { download, narrow } from './narrow.js';
import { outages, refusals, revoked } from './outages.js';
import { screenshots } from './screenshots.js';
import { first, hidden, token } from './tab.js';
import { vendored } from './vendored.js';

const CASES = {
  'uPlot is the package of npm': vendored,
  'the page is light, and fast': budget,
  'every number is the one of the answer': numbers,
  'an event appears': live,
  'the first event of an account': first,
  'the token stays in its tab': token,
  'a hidden tab has no stream': hidden,
  'names are text': hostile,
  'a token that sees little': narrow,
  'the download': download,
  'a table becomes a chart again': charts,
  'keyboard alone': keyboard,
  'axe-core finds nothing': accessible,
  'an hour on the page': anHour,
  'a token ends': revoked,
  'refusals in words': refusals,
  'programs end and come back': outages,
};

const { PAGE_ASSETS: assets, PAGE_CHROMIUM: chromium, PAGE_PROGRAM: program, PAGE_SCREENSHOTS: folder } = process.env;
const stage = { assets };

before(async () => {
  stage.installation = await Installation.start(program);
  stage.browser = await launch(chromium);
});

// A test that failed leaves its tabs open.
afterEach(() => Promise.all(stage.browser.contexts().map((context) => context.close())));

after(async () => {
  await stage.browser?.close();
  await stage.installation?.stop();
});

for (const [name, run] of Object.entries(CASES)) test(name, (t) => run(t, stage));

test('screenshots', async (t) => {
  const { token } = await stage.installation.token();
  for (const file of await screenshots(stage.browser, stage.installation.url, token, folder, 'fixture')) t.diagnostic(file);
});
