// Somebody who looks at the page: a tab of Chromium in which nothing unexpected may happen.

import { chromium } from 'playwright-core';
import { PATIENCE, until } from './installation.js';

const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'];

/** @param {string} program */
export const launch = (program) => chromium.launch({ executablePath: program, args: ARGUMENTS });

/** What Chromium writes of an answer that the page gets to see and handles itself. */
const ANSWER = /^Failed to load resource: (the server responded with a status of \d+|net::ERR_)/;

export class Look {
  /**
   * Opens the page. Without a token it asks for one.
   * @param {import('playwright-core').Browser} browser
   * @param {{
   *   url: string, token?: string, prepare?: (page: import('playwright-core').Page) => Promise<unknown>,
   *   refusals?: boolean, context?: import('playwright-core').BrowserContextOptions
   * }} how `refusals`: the service refuses or is away at times; `prepare` is called before the page loads
   */
  static async open(browser, { url, token, prepare, refusals = false, context = {} }) {
    const made = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...context });
    made.setDefaultTimeout(PATIENCE);
    const page = await made.newPage();
    const look = new Look(page, new URL(url).host, refusals);
    await prepare?.(page);
    // Tokens that botstats makes may stand in a link; any may be typed.
    const inLink = token?.startsWith('bst_');
    await page.goto(`${url}/dashboard${inLink ? `#${token}` : ''}`);
    if (token && !inLink) {
      await page.locator('input[name=token]').fill(token);
      await page.keyboard.press('Enter');
    }
    return look;
  }

  constructor(page, host, refusals) {
    /** @type {import('playwright-core').Page} */
    this.page = page;
    /** What should not have happened. @type {string[]} */
    this.unexpected = [];
    /** Paths of all requests. @type {string[]} */
    this.requests = [];
    page.on('console', (message) => {
      if (!['error', 'warning'].includes(message.type()) || (refusals && ANSWER.test(message.text()))) return;
      this.unexpected.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.unexpected.push(`uncaught: ${error.stack}`));
    page.on('dialog', (dialog) => {
      this.unexpected.push(`dialog: ${dialog.message()}`);
      dialog.dismiss().catch(() => {});
    });
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol === 'data:') return;
      if (url.host !== host) this.unexpected.push(`request to ${url.host}`);
      this.requests.push(url.pathname + url.search);
    });
  }

  /** Waits until the status line has one of these states. */
  async status(...states) {
    const seen = () => this.page.locator('[data-status]').getAttribute('data-state');
    let last;
    await until(`status ${states}`, async () => states.includes(last = await seen()), () => `but ${last}`);
  }

  /** Waits for the first numbers. */
  async ready() {
    await this.status('live');
    await until('numbers in the tiles', () => this.page.evaluate(() => {
      const values = [...document.querySelectorAll('[data-value]')];
      return values.length > 0 && values.every((value) => /\S/.test(value.textContent ?? ''));
    }));
  }

  /** Waits until no part waits for its answer. */
  async complete() {
    await this.ready();
    await this.page.waitForFunction(() => !document.querySelector('[data-wait]'));
  }

  /** Waits until a problem is shown whose words match. */
  async problem(words) {
    let last;
    await until(`a problem like ${words}`, async () => {
      last = await this.page.locator('[data-problem], [data-note]').filter({ visible: true }).allInnerTexts();
      return last.some((text) => words.test(text));
    }, () => `but ${JSON.stringify(last)}`);
  }

  /** Closes the tab; fails if something unexpected has happened in it. */
  async close() {
    await this.page.context().close();
    if (this.unexpected.length > 0) throw new Error(this.unexpected.join('\n'));
  }
}
