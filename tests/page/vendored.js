// Files of others are as they published them.

import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';

export async function vendored(_t, { assets }) {
  const npm = new URL('node_modules/uplot/', import.meta.url);
  for (const [ours, theirs] of [['uPlot.js', 'dist/uPlot.iife.min.js'], ['uPlot.LICENSE', 'LICENSE']]) {
    const same = (await readFile(`${assets}/${ours}`)).equals(await readFile(new URL(theirs, npm)));
    assert.ok(same, `${ours} is not ${theirs} of the npm package uplot`);
  }
}
