// Pictures of the page, to be looked at. They are not compared.

import { mkdir } from 'node:fs/promises';
import { Look } from './look.js';

const WIDTHS = [1280, 390];
const SCHEMES = ['light', 'dark'];
/** The most that a picture in the README may have: everybody who clones the repository gets it. */
const MAX_SMALL_BYTES = 150_000;

/** The whole page at all widths, in all schemes; returns the files. */
export async function screenshots(browser, url, token, folder, name) {
  await mkdir(folder, { recursive: true });
  const files = [];
  for (const width of WIDTHS) {
    for (const colorScheme of SCHEMES) {
      const context = { viewport: { width, height: 900 }, colorScheme, reducedMotion: 'reduce' };
      const look = await Look.open(browser, { url, token, context });
      await look.complete();
      const path = `${folder}/${name}-${width}-${colorScheme}.png`;
      await look.page.screenshot({ path, fullPage: true });
      files.push(path);
      await look.close();
    }
  }
  return files;
}

/** The first screen of the page, light and dark, for the README. */
export async function small(browser, url, token, folder) {
  await mkdir(folder, { recursive: true });
  for (const [colorScheme, name] of [['light', 'dashboard'], ['dark', 'dashboard-dark']]) {
    const context = { viewport: { width: 1280, height: 1060 }, colorScheme, reducedMotion: 'reduce', locale: 'en-GB' };
    const look = await Look.open(browser, { url, token, context });
    await look.complete();
    const picture = await look.page.screenshot({ path: `${folder}/${name}.png` });
    await look.close();
    if (picture.length > MAX_SMALL_BYTES) throw new Error(`${name}.png has ${picture.length} bytes`);
  }
}
