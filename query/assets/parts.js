// The parts of the page: which question each asks, and how it shows the rows.

import { Figure, asks, el, fill, find, heat, put } from './charts.js';
import { METRICS, change, duration, group, local, metric, show } from './metrics.js';

/** @typedef {import('./metrics.js').Row} Row */
/** @typedef {import('./charts.js').Series} Series */

/** @typedef {import('./metrics.js').View} View */
/**
 * What goes on now with a bot on a channel.
 * @typedef {{ BotName: string, BotId: string, ChannelName: string, ChannelId: string, OldestRequest: string | null }
 *   & Record<string, number>} Pair
 */

/**
 * @typedef {{
 *   name: string, question: (view: View) => string, render: (view: View, rows: Row[]) => void
 * }} Part
 */

/** @param {View} view */
const grainName = (view) => (view.grain === '15min' ? '15 minutes' : view.grain);

/** Names that a table of names shows. */
const TOP = 20;

/** @type {Map<string, Figure>} */
const figures = new Map();

/** @param {string} name */
function figure(name) {
  const known = figures.get(name);
  if (known) return known;
  const made = new Figure(find(document, `figure[data-chart="${name}"]`));
  figures.set(name, made);
  return made;
}

/**
 * The path of a question. A channel is no parameter of a question: rows are kept apart by channel,
 * and `mine` takes those of this channel. So every number is one that the service computed.
 * @param {View} view @param {number[]} codes @param {string} mode
 * @param {{ by?: string, compare?: boolean, stats?: boolean, split?: string, fill?: boolean }} [more]
 */
function ask(view, codes, mode, more = {}) {
  const query = new URLSearchParams({ from: view.from, to: view.to });
  query.set('by', more.by ?? (view.channel ? 'channel' : 'none'));
  if (more.compare && view.compare) query.set('previous', view.compare);
  if (more.stats) query.set('stats', 'p50,p90');
  if (more.split) query.set('split', more.split);
  if (more.split) query.set('top', String(TOP));
  if (more.fill) query.set('fill', 'zero');
  const list = [...codes].sort((a, b) => a - b).join(',');
  return `data/${encodeURIComponent(view.bot || '*')}/${list}/${mode}/*?${query}`.replaceAll('%2C', ',');
}

/** The rows of the view's channel. @param {View} view @param {Row[]} rows */
export function mine(view, rows) {
  return view.channel ? rows.filter((r) => r.ChannelId === view.channel) : rows;
}

/**
 * The number that the page shows of a row: the median of durations.
 * @param {Row | undefined} row
 */
function value(row) {
  if (!row) return null;
  return METRICS.get(row.EventType)?.kind === 'duration' && row.P50 !== undefined ? row.P50 : row.Value;
}

/** @param {Row[]} rows @param {number} code @param {string} [period] */
const pick = (rows, code, period = 'current') =>
  rows.find((r) => r.EventType === code && (r.Period ?? 'current') === period);

/** @param {number} part @param {number} all */
const percent = (part, all) => (all === 0 ? null : (100 * part) / all);

/** @type {(number | 'fallback')[]} */
const TILES = [100, 2, 0, 13, 101, 'fallback', 9, 12];

/**
 * @param {Row[]} rows @param {number | 'fallback'} tile @param {string} period
 * @param {boolean} zero
 */
function tileValue(rows, tile, period, zero) {
  if (tile === 'fallback') {
    return percent(pick(rows, 5, period)?.Sum ?? 0, pick(rows, 3, period)?.Sum ?? 0);
  }
  const found = value(pick(rows, tile, period));
  const { kind } = metric(tile);
  return found === null && zero && (kind === 'count' || kind === 'users') ? 0 : found;
}

/** @param {number | 'fallback'} tile */
function tileArticle(tile) {
  const name = tile === 'fallback' ? 'Fallback share' : metric(tile).label;
  const label = tile === 'fallback'
    ? el('span', {}, name)
    : el('button', { type: 'button', class: 'link', 'data-metric': String(tile), title: 'Show over time' }, name);
  return el('article', { 'data-tile': String(tile) },
    el('h3', {}, label, ' ', asks(tile === 'fallback' ? 'Fallback' : String(tile), name)),
    el('output', { 'data-value': '' }, '–'), el('p', { class: 'more', 'data-more': '' }),
    el('p', {}, el('span', { 'data-change': '' }), ' ', el('span', { 'data-before': '' })));
}

/** @param {View} view @param {Row[]} rows */
function tiles(view, rows) {
  const box = find(document, '[data-tiles]');
  if (!box.children.length) box.append(...TILES.map(tileArticle));
  TILES.forEach((tile, i) => {
    const article = box.children[i];
    const kind = tile === 'fallback' ? 'ratio' : metric(tile).kind;
    const now = tileValue(rows, tile, 'current', true);
    const before = view.compare ? tileValue(rows, tile, 'previous', true) : undefined;
    const output = find(article, '[data-value]');
    put(output, show(now, kind));
    output.setAttribute('data-raw', now === null ? '' : String(now));
    article.toggleAttribute('data-chosen', tile === view.metric);
    const p90 = kind === 'duration' && tile !== 'fallback' ? pick(rows, tile)?.P90 : null;
    put(article.querySelector('[data-more]'), kind !== 'duration' ? '' : p90 ? `median · 9 of 10 within ${duration(p90)}` : 'median');
    const { text, verdict } = change(now, before, kind, tile === 'fallback' ? -1 : metric(tile).good);
    const changed = find(article, '[data-change]');
    put(changed, verdict ? `${text} ${verdict}` : text);
    changed.className = verdict;
    put(article.querySelector('[data-before]'), before === undefined ? '' : before === null ? 'none before' : `was ${show(before, kind)}`);
  });
}

/**
 * Series of one code over time, with the earlier window under it by position.
 * @param {string} name @param {View} view @param {Row[]} rows
 * @param {{ title: string, kind: import('./metrics.js').Kind, empty: string, compare?: boolean,
 *   lines: { name: string, style: Series['style'], code: string | number, of: (at: Row[]) => number | null }[] }} how
 */
function overTime(name, view, rows, how) {
  const groups = (/** @type {string} */ period) => {
    /** @type {Map<string, Row[]>} */
    const by = new Map();
    for (const row of rows) {
      if ((row.Period ?? 'current') !== period) continue;
      const key = row.GroupStart ?? row.GroupLabel;
      by.set(key, [...(by.get(key) ?? []), row]);
    }
    return [...by.values()];
  };
  const now = groups('current');
  const before = how.compare ? groups('previous') : [];
  figure(name).show({
    title: how.title, kind: how.kind, empty: how.empty,
    unfinished: now.length > 0 && !now[now.length - 1][0].Complete,
    points: now.map((at, i) => {
      const [long, short] = group(at[0].GroupLabel);
      return { long, short, before: before[i] ? group(before[i][0].GroupLabel)[0] : undefined };
    }),
    series: [
      ...how.lines.map((l) => ({ name: l.name, style: l.style, code: l.code, values: now.map(l.of) })),
      ...(how.compare && view.compare ? [{
        name: view.before, style: /** @type {'before'} */ ('before'), code: `${how.lines[0].code}-before`,
        values: now.map((_, i) => (before[i] ? how.lines[0].of(before[i]) : null)),
      }] : []),
    ],
  });
}

/** @param {number} code @returns {(at: Row[]) => number | null} */
const of = (code) => (at) => value(at.find((r) => r.EventType === code));

/** @param {number} code @returns {(at: Row[]) => number | null} */
const p90 = (code) => (at) => at.find((r) => r.EventType === code)?.P90 ?? null;

/** @param {number} part @param {number[]} all @returns {(at: Row[]) => number | null} */
const share = (part, all) => (at) => {
  const sum = (/** @type {number} */ code) => at.find((r) => r.EventType === code)?.Sum ?? 0;
  return percent(sum(part), all.reduce((total, code) => total + sum(code), 0));
};

/** Heads of columns whose table says the rest. @type {Record<number, string>} */
const SHORT = { 12: 'Reached', 18: 'Set', 4: 'Calls' };

const NOTHING = 'Nothing in this time. Choose other dates, or another bot or channel.';

/**
 * A part of three small charts: medians, and what nine of ten are within.
 * @type {[string, number][]}
 */
const WAITS = [['pickup', 9], ['operatorreply', 106], ['botreply', 105]];

/**
 * A table of names, largest first.
 * @param {string} name @param {string} caption @param {View} view @param {Row[]} rows @param {string} first
 * @param {(number | { text: string, of: (rows: Row[]) => number | null })[]} columns codes, or shares
 * @param {string} empty
 */
function names(name, caption, view, rows, first, columns, empty) {
  const label = (/** @type {Row} */ r) => r.SplitName ?? `${r.BotName} ${r.ChannelName}`;
  const key = (/** @type {Row} */ r) => JSON.stringify(r.SplitBy ? [r.SplitId, r.SplitName] : [r.BotId, r.ChannelId]);
  /** @type {Map<string, Row[]>} */
  const by = new Map();
  for (const row of rows) by.set(key(row), [...(by.get(key(row)) ?? []), row]);
  const codes = /** @type {number[]} */ (columns.filter((c) => typeof c === 'number'));
  const size = (/** @type {Row[]} */ at) => pick(at, codes[0])?.Count ?? 0;
  const last = (/** @type {Row[]} */ at) => (at[0].SplitBy && at[0].SplitId === null ? (at[0].SplitName === '(other)' ? 2 : 1) : 0);
  const lines = [...by.entries()].filter(([, at]) => at.some((r) => r.Count > 0))
    .sort(([, a], [, b]) => last(a) - last(b) || size(b) - size(a) || label(a[0]).localeCompare(label(b[0])));
  const most = Math.max(1, ...lines.map(([, at]) => value(pick(at, codes[0])) ?? 0));
  const compare = view.compare && codes.length === 1;
  const heads = [
    { text: first },
    ...columns.map((c) => (typeof c === 'number' ? { text: SHORT[c] ?? metric(c).label, what: String(c) } : { text: c.text })),
    ...(compare ? [{ text: 'Before' }, { text: 'Change' }] : []),
  ];
  const section = find(document, `[data-part="${name}"]`);
  const table = find(section, 'table');
  nothing(section, lines.length ? '' : empty);
  fill(table, caption, heads, lines.map(([id, at]) => ({
    key: id,
    cells: [
      { text: at[0].SplitBy ? label(at[0]) : `${at[0].BotName} · ${at[0].ChannelName}`, cls: last(at) ? 'rest' : '' },
      ...columns.map((c, i) => {
        if (typeof c !== 'number') { const raw = c.of(at); return { text: show(raw, 'ratio'), raw, code: c.text }; }
        const { kind } = metric(c);
        const found = value(pick(at, c)) ?? (kind === 'count' || kind === 'users' ? 0 : null);
        return { text: show(found, kind), raw: found, code: c, bar: i === 0 ? (found ?? 0) / most : undefined };
      }),
      ...(compare ? beforeCells(at, codes[0]) : []),
    ],
  })));
}

/** @param {Row[]} at @param {number} code */
function beforeCells(at, code) {
  const { kind, good } = metric(code);
  const before = value(pick(at, code, 'previous')) ?? 0;
  const { text } = change(value(pick(at, code)) ?? 0, before, kind, good);
  return [{ text: show(before, kind), raw: before, code: `${code}-before` }, { text }];
}

/**
 * Says that a part has nothing to show, or hides this.
 * @param {HTMLElement} section @param {string} text
 */
export function nothing(section, text) {
  let said = /** @type {HTMLElement | null} */ (section.querySelector(':scope > .empty'));
  if (!said) {
    said = el('p', { class: 'empty' });
    section.append(said);
  }
  put(said, text);
  said.hidden = text === '';
  for (const box of section.querySelectorAll(':scope > :is(.scroll, figure, .three, .grid)')) {
    /** @type {HTMLElement} */ (box).hidden = text !== '';
  }
}

const COUNTS = ['Open', 'WithBot', 'WithOperator', 'Waiting', 'WaitingActive', 'Unanswered'];

/**
 * What goes on now, of the pairs that the view shows.
 * @param {Pair[]} pairs @param {string} zone
 */
export function showPairs(pairs, zone) {
  const section = find(document, '[data-part="now"]');
  const time = (/** @type {string} */ t) => local(Date.parse(t), zone)[1].slice(0, 5);
  for (const name of COUNTS) put(find(section, `[data-now="${name}"]`), String(pairs.reduce((sum, p) => sum + p[name], 0)));
  const oldest = pairs.flatMap((p) => p.OldestRequest ?? []).sort()[0];
  put(find(section, '[data-oldest]'), oldest ? `since ${time(oldest)}` : '');
  section.toggleAttribute('data-waiting', pairs.some((p) => p.WaitingActive > 0));
  const heads = ['Open', 'With the bot', 'With an operator', 'Waiting', 'Waiting and active', 'Unanswered'];
  fill(find(section, 'table'), 'What goes on now, by bot and channel',
    [{ text: 'Bot' }, { text: 'Channel', cls: 'text' }, ...heads.map((text) => ({ text })), { text: 'Oldest since' }],
    pairs.map((p) => ({
      key: JSON.stringify([p.BotId, p.ChannelId]),
      cells: [{ text: p.BotName }, { text: p.ChannelName, cls: 'text' }, ...COUNTS.map((c) => ({ text: String(p[c]), raw: p[c], code: c })),
        { text: p.OldestRequest ? time(p.OldestRequest) : '–', raw: p.OldestRequest, code: 'OldestRequest' }],
    })));
  find(section, '.scroll').hidden = pairs.length === 0;
  find(section, '.empty').hidden = pairs.length > 0;
}

/**
 * How to begin, while there is nothing to see.
 * @param {import('./metrics.js').Account} account @param {boolean} none
 */
export function showFirst({ Account: id, Bots: bots }, none) {
  const section = find(document, '[data-part="first"]');
  const bot = bots[0]?.BotId ?? 'mybot';
  section.hidden = !none;
  document.body.classList.toggle('none', none);
  find(section, '[data-first-bot]').hidden = bots.length > 0;
  put(find(section, '[data-first-text]'), `The account ${id} has ${bots.length ? 'bots, but none has published an event' : 'no bot yet'}. This leads to the first number:`);
  put(find(section, '[data-first-add]'), `botstats bot add ${id} ${bot} --name "My bot" --channel web=Web`);
  put(find(section, '[data-first-event]'), `echo '{"subject":"botstats.events.${id}.${bot}.web","payload":{"specversion":"1.0",
 "id":"1","source":"/first","type":"io.botstats.message.received.v1",
 "time":"'$(date -u +%FT%TZ)'","data":{"conversationid":"c1","userid":"u1"}}}' \\
 | tr -d '\\n' | botstats publish -`);
}

/** In the order in which they are asked. @type {Part[]} */
export const PARTS = [
  {
    name: 'tiles',
    question: (view) => ask(view, [0, 2, 3, 5, 9, 12, 13, 100, 101], 'total', { compare: true, stats: true }),
    render: tiles,
  },
  {
    name: 'main',
    question: (view) => ask(view, [view.metric], view.grain,
      { compare: true, fill: true, stats: metric(view.metric).kind === 'duration' }),
    render: (view, rows) => {
      const { code, label, kind } = metric(view.metric);
      const lines = [{ name: kind === 'duration' ? 'Median' : label, style: /** @type {'main'} */ ('main'), code, of: of(code) }];
      overTime('main', view, rows, {
        title: `${label}${kind === 'duration' ? ', median' : ''}, by ${grainName(view)}`,
        kind, lines, compare: true, empty: NOTHING,
      });
    },
  },
  {
    name: 'users',
    question: (view) => ask(view, [0, 1], view.grain, { fill: true }),
    render: (view, rows) => overTime('users', view, rows, {
      title: `New and returning users, by ${grainName(view)}`, kind: 'users', empty: NOTHING,
      lines: [{ name: 'New', style: 'main', code: 0, of: of(0) }, { name: 'Returning', style: 'second', code: 1, of: of(1) }],
    }),
  },
  {
    name: 'nlp',
    question: (view) => ask(view, [3, 5, 6, 7], view.grain, { fill: true }),
    render: (view, rows) => overTime('nlp', view, rows, {
      title: `Recognised messages and fallback replies, in percent, by ${grainName(view)}`, kind: 'ratio',
      empty: 'No answers in this time. Bots report them with events of the types nlp.evaluated and message.sent.',
      lines: [{ name: 'Recognised', style: 'main', code: 'recognition', of: share(6, [6, 7]) },
        { name: 'Fallback', style: 'second', code: 'fallback', of: share(5, [3]) }],
    }),
  },
  {
    name: 'support',
    question: (view) => ask(view, WAITS.map(([, code]) => code), view.grain, { fill: true, stats: true }),
    render: (view, rows) => WAITS.forEach(([name, code]) => overTime(name, view, rows.filter((r) => r.EventType === code), {
      title: metric(code).label, kind: 'duration',
      empty: code === 105 ? NOTHING : 'No operator joined in this time. Bots report operators with events such as operator.joined.',
      lines: [{ name: 'Median', style: 'main', code: `${code}`, of: of(code) },
        { name: '9 of 10 within', style: 'second', code: `${code}-p90`, of: p90(code) }],
    })),
  },
  {
    name: 'heat',
    question: (view) => ask(view, [view.metric], 'weekhour', { fill: true, stats: metric(view.metric).kind === 'duration' }),
    render: (view, rows) => {
      const { code, label, kind } = metric(view.metric);
      const hours = new Map(rows.map((r) => [r.GroupLabel, value(r)]));
      const days = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];
      const values = days.flatMap((d) => Array.from({ length: 24 }, (_, h) => hours.get(`${d} ${String(h).padStart(2, '0')}`) ?? null));
      const unit = kind === 'ratio' ? ', in percent' : kind === 'duration' ? ', median' : kind === 'mean' ? '' : ', mean of an hour';
      const caption = `${label}${unit}, by day of the week and hour`;
      const section = find(document, '[data-part="heat"]');
      nothing(section, values.some((v) => v) ? '' : 'No whole hour with events in this time.');
      put(find(section, '[data-heat-text]'), `${caption}. Follows the number that you chose above. A dot: nothing to count.`);
      heat(find(section, 'table'), caption, kind, code, values);
    },
  },
  {
    name: 'goals',
    question: (view) => ask(view, [12], 'total', { split: 'goal', compare: true }),
    render: (view, rows) => names('goals', 'Goals reached, by goal', view, rows, 'Goal', [12],
      'No goal was reached in this time. Bots report goals with events of the type goal.reached.'),
  },
  {
    name: 'tags',
    question: (view) => ask(view, [18], 'total', { split: 'tag', compare: true }),
    render: (view, rows) => names('tags', 'Tags set, by tag', view, rows, 'Tag', [18],
      'No tag was set in this time. Bots report tags with events of the type tag.set.'),
  },
  {
    name: 'intents',
    question: (view) => ask(view, [6, 7], 'total', { split: 'intent' }),
    render: (view, rows) => names('intents', 'Recognised and not recognised messages, by intent', view, rows, 'Intent', [6, 7],
      'No message was evaluated in this time. Bots report this with events of the type nlp.evaluated.'),
  },
  {
    name: 'integrations',
    question: (view) => ask(view, [4, 14, 15, 107], 'total', { split: 'integration', stats: true }),
    render: (view, rows) => names('integrations', 'Calls of integrations, by name', view, rows, 'Integration',
      [4, 15, { text: 'Error share', of: share(15, [14]) }, 107],
      'No integration was called in this time. Bots report calls with events of the type integration.called.'),
  },
  {
    name: 'bots',
    question: (view) => ask(view, [100, 2, 13, 101, 105, 12], 'total', { by: 'bot,channel', stats: true }),
    render: (view, rows) => names('bots', 'Bots by channel', view, rows, 'Bot · channel', [100, 2, 13, 101, 105, 12], NOTHING),
  },
  {
    name: 'operators',
    question: (view) => ask(view, [9, 11, 16, 17, 106], 'total', { split: 'operator', stats: true }),
    render: (view, rows) => names('operators', 'How operators do', view, rows, 'Operator', [17, 9, 16, 106, 11],
      'No operator joined a conversation in this time.'),
  },
];
