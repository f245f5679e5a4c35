// Drawing: lines with uPlot, and tables, bars and the heat map with HTML alone. Texts only as
// textContent, so that no name can become markup.

import { brief, show } from './metrics.js';

/** @typedef {import('./metrics.js').Kind} Kind */

/**
 * A cell: its text, the number as it stands in the answer, the share of its column's largest for a
 * bar, and a class.
 * @typedef {{ text: string, raw?: unknown, code?: string | number, bar?: number, cls?: string, title?: string }} Cell
 * @typedef {{ key: string, cells: Cell[] }} Line the first cell is the line's head
 * @typedef {{ text: string, what?: string, cls?: string }} Head `what`: what the definition button explains
 */

/**
 * @typedef {{ name: string, style: 'main' | 'second' | 'before', values: (number | null)[], code: string | number }} Series
 * @typedef {{
 *   title: string, kind: Kind, points: { long: string, short: string, before?: string }[],
 *   series: Series[], unfinished: boolean, empty: string
 * }} Chart
 */

const uPlot = /** @type {any} */ (globalThis).uPlot;

/**
 * @param {string} name @param {Record<string, string>} [attributes] @param {(Node | string)[]} children
 * @returns {HTMLElement}
 */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/**
 * Sets a text only if it differs, so that nothing flickers.
 * @param {Element | null} node @param {string} text
 */
export function put(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

/** @param {ParentNode} root @param {string} selector @returns {HTMLElement} */
export function find(root, selector) {
  const found = root.querySelector(selector);
  if (!found) throw new Error(`no ${selector}`);
  return /** @type {HTMLElement} */ (found);
}

/** A button that shows a definition. @param {string} what @param {string} name */
export function asks(what, name) {
  return el('button', { type: 'button', class: 'ask', 'data-what': what, 'aria-label': `What is “${name}”?` }, '?');
}

/**
 * Fills a table in place: cells that stay keep their elements.
 * @param {Element} table @param {string} caption @param {Head[]} heads @param {Line[]} lines
 */
export function fill(table, caption, heads, lines) {
  const shape = JSON.stringify(heads);
  if (table.getAttribute('data-shape') !== shape) {
    table.setAttribute('data-shape', shape);
    const row = el('tr', {}, ...heads.map((h) => {
      const th = el('th', { scope: 'col' }, el('span', {}, h.text));
      if (h.cls) th.className = h.cls;
      if (h.what) th.append('\u00a0', asks(h.what, h.text));
      return th;
    }));
    table.replaceChildren(el('caption', { class: 'unseen' }), el('thead', {}, row), el('tbody'));
  }
  put(table.querySelector('caption'), caption);
  const body = find(table, 'tbody');
  while (body.children.length > lines.length) body.lastElementChild?.remove();
  lines.forEach((line, i) => {
    let tr = body.children[i];
    if (!tr) {
      tr = el('tr', {}, el('th', { scope: 'row' }), ...line.cells.slice(1).map(() => el('td')));
      body.append(tr);
    }
    line.cells.forEach((cell, n) => fillCell(/** @type {HTMLElement} */ (tr.children[n]), line.key, cell, n > 0));
  });
}

/** @param {HTMLElement} td @param {string} key @param {Cell} cell @param {boolean} value */
function fillCell(td, key, cell, value) {
  if (value) {
    td.setAttribute('data-key', key);
    if (cell.code !== undefined) td.setAttribute('data-code', String(cell.code));
    td.setAttribute('data-raw', cell.raw === undefined || cell.raw === null ? '' : String(cell.raw));
  }
  if (td.className !== (cell.cls ?? '')) td.className = cell.cls ?? '';
  if (cell.title) td.title = cell.title;
  if (cell.bar === undefined) { put(td, cell.text); return; }
  let bar = /** @type {HTMLElement | null} */ (td.querySelector('.barline'));
  if (!bar) {
    bar = el('span', { class: 'barline', 'aria-hidden': 'true' });
    td.replaceChildren(el('span', { class: 'num' }), bar);
  }
  put(td.firstElementChild, cell.text);
  bar.style.inlineSize = `${(100 * cell.bar).toFixed(1)}%`;
}

/**
 * The week as seven lines of 24 hours. Shades repeat what the text in each cell says.
 * @param {Element} table @param {string} caption @param {Kind} kind @param {string | number} code
 * @param {(number | null)[]} values 168, from Monday 00 on
 */
export function heat(table, caption, kind, code, values) {
  const most = Math.max(0, ...values.map((v) => v ?? 0));
  const days = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];
  const heads = [{ text: 'Day' }, ...Array.from({ length: 24 }, (_, h) => ({ text: String(h).padStart(2, '0') }))];
  fill(table, caption, heads, days.map((day, d) => ({
    key: day,
    cells: [{ text: day }, ...values.slice(24 * d, 24 * d + 24).map((v, h) => ({
      text: v === null ? '·' : kind === 'duration' ? brief(v, kind).replace(/ (s|min|h)\b.*/, '$1') : brief(v, kind).replace(' %', ''),
      raw: v, code,
      cls: v === null || most === 0 ? 'h0' : `h${v === 0 ? 0 : Math.ceil((6 * v) / most)}`,
      title: `${day} ${String(h).padStart(2, '0')}:00 to ${String(h + 1).padStart(2, '0')}:00: ${show(v, kind)}`,
    }))],
  })));
}

/** Points are marked if there are fewer. */
const MARKED = 46;

/** Looks of lines: colour and dashes. `soFar` is the way to a group that is not over yet. */
const STYLES = {
  soFar: { color: '--c1', dash: '1 4', width: 1.5 },
  secondSoFar: { color: '--c2', dash: '1 4', width: 1.5 },
  main: { color: '--c1', dash: '', width: 2 },
  second: { color: '--c2', dash: '7 3 2 3', width: 2 },
  before: { color: '--c3', dash: '5 4', width: 1.5 },
};

/** @param {string} name of a custom property */
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim() || 'currentColor';

/** Steps of an axis of seconds, so that it has whole minutes and hours. */
const SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
  3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];
const COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6,
  2e6, 5e6, 1e7, 5e7, 1e8, 1e9];

/**
 * The lines as they are drawn: what leads to a group that is not over yet is a line of its own.
 * @param {Chart} chart @returns {{ name: string, style: keyof typeof STYLES, values: (number | null)[] }[]}
 */
function drawn(chart) {
  const last = chart.points.length - 1;
  return chart.series.flatMap((s) => (!chart.unfinished || last === 0 || s.style === 'before' ? [s] : [
    { ...s, values: s.values.map((v, i) => (i === last ? null : v)) },
    { ...s, style: s.style === 'main' ? 'soFar' : 'secondSoFar', values: s.values.map((v, i) => (i >= last - 1 ? v : null)) },
  ]));
}

/** The live region of the page. @param {string} text */
export function speak(text) {
  const region = document.querySelector('[data-speak]');
  if (region) region.textContent = text;
}

/**
 * @param {HTMLSelectElement} select @param {[string, string][]} list values and texts
 * @param {string} chosen
 */
export function options(select, list, chosen) {
  const shape = JSON.stringify(list);
  if (select.getAttribute('data-shape') !== shape) {
    select.setAttribute('data-shape', shape);
    select.replaceChildren(...list.map(([value, text]) => el('option', { value }, text)));
  }
  select.value = chosen;
}

/** Shows a definition at its button. @param {HTMLElement} button @param {string} text */
export function explain(button, text) {
  const box = find(document, '[data-definition]');
  put(box, text);
  box.showPopover();
  const at = button.getBoundingClientRect();
  const under = at.bottom + 6 + box.offsetHeight <= innerHeight;
  box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${under ? at.bottom + 6 : at.top - box.offsetHeight - 6}px`;
  speak(text);
}

/** One chart in its figure: drawn, as a table, and spoken. */
export class Figure {
  /** @param {HTMLElement} figure */
  constructor(figure) {
    this.figure = figure;
    /** @type {Chart | null} */ this.chart = null;
    /** @type {any} */ this.plot = null;
    /** What the plot was made for, which new data cannot change; empty: it is made anew. */
    this.looks = '';
    this.at = -1;
    this.legend = el('p', { class: 'legend' });
    this.read = el('p', { class: 'read' });
    this.box = el('div', { class: 'plot', tabindex: '0', role: 'group', 'aria-roledescription': 'chart' });
    this.empty = el('p', { class: 'empty', hidden: '' });
    this.table = el('table', { 'data-table': figure.getAttribute('data-chart') ?? '' });
    this.scroll = el('div', { class: 'scroll tall', tabindex: '0', role: 'group', hidden: '' }, this.table);
    this.button = el('button', { type: 'button', 'data-as-table': '', 'aria-pressed': 'false' }, 'Table');
    figure.append(this.button, this.legend, this.read, this.box, this.empty, this.scroll);
    this.button.addEventListener('click', () => this.toggle());
    this.box.addEventListener('keydown', (event) => this.key(event));
    this.box.addEventListener('blur', () => this.move(-1));
    new ResizeObserver(() => this.size()).observe(this.box);
    for (const query of ['(prefers-color-scheme: dark)', '(forced-colors: active)']) {
      matchMedia(query).addEventListener('change', () => {
        this.looks = '';
        this.draw();
      });
    }
  }

  get asTable() {
    return this.button.getAttribute('aria-pressed') === 'true';
  }

  toggle() {
    this.button.setAttribute('aria-pressed', String(!this.asTable));
    put(this.button, this.asTable ? 'Chart' : 'Table');
    this.draw();
  }

  /** @param {Chart} chart */
  show(chart) {
    this.chart = chart;
    this.draw();
  }

  /** @private */
  draw() {
    const { chart } = this;
    if (!chart) return;
    put(this.figure.querySelector('figcaption'), chart.title);
    this.button.setAttribute('aria-label', `${this.asTable ? 'Show as a chart' : 'Show as a table'}: ${chart.title}`);
    this.scroll.setAttribute('aria-label', `${chart.title}, a table`);
    this.box.setAttribute('aria-label', `${chart.title}. The left and right arrow keys read the values.`);
    const none = chart.series.every((s) => s.values.every((v) => v === null || v === 0));
    put(this.empty, chart.empty);
    this.empty.hidden = !none || this.asTable;
    this.box.hidden = none || this.asTable;
    this.legend.hidden = this.box.hidden;
    this.read.hidden = this.box.hidden;
    this.scroll.hidden = !this.asTable;
    this.fillTable(chart);
    /** @type {{ style: keyof typeof STYLES, name: string }[]} */
    const keys = chart.unfinished && chart.points.length > 1 ? [...chart.series, { style: 'soFar', name: 'So far' }] : chart.series;
    if (this.legend.textContent !== keys.map((k) => k.name).join('')) {
      this.legend.replaceChildren(...keys.map((k) => el('span', { class: `key ${k.style}` }, swatch(k.style), k.name)));
    }
    if (this.box.hidden) return;
    const lines = drawn(chart);
    const data = [chart.points.map((_, i) => i), ...lines.map((s) => s.values)];
    const looks = JSON.stringify([chart.kind, chart.points.length < MARKED, lines.map((s) => s.style)]);
    if (this.looks === looks) {
      this.plot.setData(data);
    } else {
      this.plot?.destroy();
      this.plot = new uPlot(this.options(chart), data, this.box);
      this.looks = looks;
    }
    this.size();
    this.say(this.at);
  }

  /** @private @param {Chart} chart */
  fillTable(chart) {
    const compared = chart.points.some((p) => p.before);
    const heads = [{ text: 'Time' }, ...chart.series.map((s) => ({ text: s.name }))];
    if (compared) heads.push({ text: 'Time before' });
    fill(this.table, chart.title, heads, chart.points.map((p, i) => ({
      key: p.long,
      cells: [
        { text: p.long + (chart.unfinished && i === chart.points.length - 1 ? ' (so far)' : '') },
        ...chart.series.map((s) => ({ text: show(s.values[i], chart.kind), raw: s.values[i], code: s.code })),
        ...(compared ? [{ text: p.before ?? '' }] : []),
      ],
    })));
  }

  /** @private @param {Chart} chart */
  options(chart) {
    const grid = { stroke: css('--grid'), width: 1 };
    const font = '12px ui-sans-serif, system-ui, sans-serif';
    const axis = { stroke: css('--soft'), font, ticks: { show: false } };
    const incrs = chart.kind === 'duration' ? SECONDS : chart.kind === 'users' || chart.kind === 'count' ? COUNTS : undefined;
    const points = () => this.chart?.points ?? [];
    return {
      width: 300, height: 100, legend: { show: false }, padding: [8, 22, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: {
        x: { time: false, range: (/** @type {any} */ _u, /** @type {number} */ a, /** @type {number} */ b) => (a === b ? [a - 0.5, b + 0.5] : [a, b]) },
        y: { range: (/** @type {any} */ _u, /** @type {number} */ _a, /** @type {number} */ b) => [0, chart.kind === 'ratio' ? Math.min(100, (b || 1) * 1.15) : (b || 1) * 1.1] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 26, space: 64, incrs: [1, 2, 3, 4, 6, 7, 12, 14, 24, 28, 48, 96, 192, 384],
          values: (/** @type {any} */ _u, /** @type {number[]} */ at) => at.map((i) => points()[i]?.short ?? '') },
        { ...axis, grid, incrs, space: 34, size: chart.kind === 'duration' ? 68 : 50,
          values: (/** @type {any} */ _u, /** @type {number[]} */ at) => at.map((v) => brief(v, chart.kind)) },
      ],
      series: [{}, ...drawn(chart).map((s) => {
        const { color, dash, width } = STYLES[s.style];
        const wash = s.style === 'main' ? css('--wash') : undefined;
        return {
          label: s.name, stroke: css(color), width, fill: wash, dash: dash ? dash.split(' ').map(Number) : undefined,
          points: { show: chart.points.length < MARKED && s.style !== 'before', size: 5, fill: css('--paper'), dash: [] },
        };
      })],
      hooks: { setCursor: [(/** @type {any} */ u) => this.say(u.cursor.idx ?? -1)] },
    };
  }

  /** @private */
  size() {
    const width = this.box.clientWidth;
    const height = this.box.clientHeight;
    if (this.plot && width > 0 && height > 0 && (this.plot.width !== width || this.plot.height !== height)) {
      this.plot.setSize({ width, height });
    }
  }

  /** The values at a point, in words. @private @param {number} i */
  words(i) {
    const { chart } = this;
    const point = chart?.points[i];
    if (!chart || !point) return '';
    const last = chart.unfinished && i === chart.points.length - 1;
    const values = chart.series.map((s) => {
      const text = show(s.values[i], chart.kind);
      return s.style === 'before' && point.before ? `before, ${point.before}: ${text}` : `${s.name} ${text}`;
    });
    return `${point.long}${last ? ' (so far)' : ''}: ${values.join(' · ')}`;
  }

  /** @private @param {number} i */
  say(i) {
    if (!this.chart) return;
    const { points, series } = this.chart;
    const some = Math.max(...series.map((s) => (s.style === 'before' ? -1 : s.values.map((v) => v !== null).lastIndexOf(true))));
    put(this.read, this.words(i >= 0 && i < points.length ? i : some));
  }

  /** @private @param {number} i */
  move(i) {
    this.at = i;
    const { plot, chart } = this;
    if (!plot || !chart) return;
    const value = chart.series[0].values[i] ?? 0;
    plot.setCursor(i < 0 ? { left: -10, top: -10 } : { left: plot.valToPos(i, 'x'), top: plot.valToPos(value, 'y') });
  }

  /** @private @param {KeyboardEvent} event */
  key(event) {
    if (!this.chart || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.chart.points.length - 1;
    /** @type {Record<string, number>} */
    const to = {
      ArrowLeft: this.at < 0 ? last : Math.max(0, this.at - 1),
      ArrowRight: this.at < 0 ? 0 : Math.min(last, this.at + 1),
      Home: 0, End: last,
    };
    if (!(event.key in to)) return;
    event.preventDefault();
    event.stopPropagation();
    this.move(to[event.key]);
    speak(this.words(this.at));
  }
}

/** A piece of the line as it is drawn, for the legend. @param {keyof typeof STYLES} style */
function swatch(style) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  const line = document.createElementNS(space, 'path');
  for (const [k, v] of [['viewBox', '0 0 28 8'], ['width', '28'], ['height', '8'], ['aria-hidden', 'true']]) svg.setAttribute(k, v);
  line.setAttribute('d', 'M0 4h28');
  line.setAttribute('stroke-width', '2');
  line.setAttribute('stroke', 'currentColor');
  if (STYLES[style].dash) line.setAttribute('stroke-dasharray', STYLES[style].dash);
  svg.append(line);
  return svg;
}
