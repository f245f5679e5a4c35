// What the numbers are called and mean, and how values and times are written. No I/O, no page.

/**
 * How a value is written, and whether more of it is better.
 * @typedef {'users' | 'count' | 'ratio' | 'mean' | 'duration'} Kind
 * @typedef {{ code: number, label: string, kind: Kind, good: -1 | 0 | 1, what: string }} Metric
 */

/**
 * A row of an answer, as docs/http.md has it.
 * @typedef {{
 *   Period?: 'current' | 'previous', GroupLabel: string, BotName: string | null,
 *   ChannelName: string | null, SplitBy?: string, SplitName?: string, EventLabel: string,
 *   EventType: number, Value: number | null, Count: number, Sum: number, Unit: string,
 *   P50?: number | null, P90?: number | null, BotId: string | null, ChannelId: string | null,
 *   SplitId?: string | null, GroupStart: string | null, Complete: boolean
 * }} Row
 */

/** @type {[number, string, Kind, -1 | 0 | 1, string][]} */
const LIST = [
  [100, 'Conversations', 'count', 1, 'Sessions in which a user wrote. A pause of 30 minutes begins a new one (24 hours while an operator is asked for or present).'],
  [2, 'Active users', 'users', 1, 'Different users who wrote in this time. A user who wrote on several days counts once.'],
  [0, 'New users', 'users', 1, 'Users who wrote for the first time ever.'],
  [1, 'Returning users', 'users', 1, 'Active users who had written before this time.'],
  [13, 'Incoming messages', 'count', 0, 'Messages that users sent.'],
  [3, 'Bot messages', 'count', 0, 'Answers that the bot sent, one for each turn.'],
  [17, 'Operator messages', 'count', 0, 'Messages that operators wrote themselves; automatic ones do not count.'],
  [104, 'Messages per conversation', 'mean', 0, 'All messages of user, bot and operator, for each conversation.'],
  [8, 'Conversation length', 'duration', 0, 'From the first message of the user to the last message of the conversation.'],
  [101, 'Solved by the bot', 'ratio', 1, 'Conversations in which no operator was asked for and none joined, as a share of all.'],
  [10, 'Taken over', 'ratio', -1, 'Conversations that an operator joined, as a share of all.'],
  [12, 'Goals reached', 'count', 1, 'Events in which a bot reported that a goal was reached.'],
  [103, 'Reached a goal', 'ratio', 1, 'Conversations in which a goal was reached, as a share of all.'],
  [108, 'Satisfied', 'ratio', 1, 'Feedback with a score of 4 or 5, as a share of all feedback.'],
  [105, 'Bot reply time', 'duration', -1, 'From the first message that is not answered yet to the answer of the bot.'],
  [106, 'Operator reply time', 'duration', -1, 'From the first message that is not answered yet, or from joining, to the answer of the operator.'],
  [9, 'Time to pick up', 'duration', -1, 'From asking for an operator to the operator who joins.'],
  [16, 'Time to first message', 'duration', -1, 'From joining to the first message of the operator.'],
  [11, 'Support length', 'duration', 0, 'From joining to the release of the conversation by the operator.'],
  [102, 'Requests not answered', 'ratio', -1, 'Requests for an operator that nobody answered, as a share of all requests.'],
  [5, 'Fallback replies', 'count', -1, 'Bot messages that say that the bot did not understand.'],
  [6, 'Recognised', 'count', 1, 'Messages in which an intent was recognised.'],
  [7, 'Not recognised', 'count', -1, 'Messages in which no intent was recognised.'],
  [4, 'Actions', 'count', 0, 'Calls of integrations, of every kind.'],
  [14, 'API calls', 'count', 0, 'Calls of integrations of the kind api.'],
  [15, 'API errors', 'count', -1, 'Calls of the kind api that failed.'],
  [107, 'API time', 'duration', -1, 'How long calls of the kind api took.'],
  [18, 'Tags set', 'count', 0, 'Events in which a tag was set.'],
];

/** In the order of the list on the page. @type {Map<number, Metric>} */
export const METRICS = new Map(
  LIST.map(([code, label, kind, good, what]) => [code, { code, label, kind, good, what }]),
);

/**
 * What is no code: shares that are made of two codes, and what goes on now.
 * @type {Record<string, string>}
 */
export const OTHERS = {
  Fallback: 'Fallback replies as a share of all bot messages (codes 5 and 3).',
  Recognition: 'Recognised messages as a share of recognised and not recognised ones (codes 6 and 7).',
  Open: 'Conversations that go on now: the last event is at most 30 minutes old (24 hours while an operator is asked for or present), and nothing has ended them.',
  WithBot: 'Open conversations in which no operator is asked for or present.',
  WithOperator: 'Open conversations in which an operator is present.',
  Waiting: 'Open conversations that asked for an operator, and nobody has joined yet.',
  WaitingActive: 'Waiting conversations in which the user wrote in the last 30 minutes.',
  Unanswered: 'Open conversations whose last message is from the user.',
};

/** @param {number} code @returns {Metric} */
export function metric(code) {
  const found = METRICS.get(code);
  if (!found) throw new Error(`no code ${code}`);
  return found;
}

/** @param {Metric} m */
export function definition(m) {
  const how = m.kind === 'duration' ? ' The page shows the median: half of them took no longer.' : '';
  return `${m.what}${how} (Code ${m.code}.)`;
}

const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 1 });
const two = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 2 });
const short = new Intl.NumberFormat('en-GB', { notation: 'compact', maximumFractionDigits: 1 });

/** @param {number} s seconds */
export function duration(s) {
  if (s < 10) return `${two.format(s)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  const m = Math.round(s / 60);
  if (s < 600) {
    const all = Math.round(s);
    return all % 60 === 0 ? `${all / 60} min` : `${Math.floor(all / 60)} min ${all % 60} s`;
  }
  if (m < 60) return `${m} min`;
  if (m < 1440) return m % 60 === 0 ? `${m / 60} h` : `${Math.floor(m / 60)} h ${m % 60} min`;
  const h = Math.round(s / 3600);
  return h % 24 === 0 ? `${h / 24} d` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

/**
 * A value as text, with its unit where the unit is not the number's name.
 * @param {number | null | undefined} value @param {Kind} kind
 */
export function show(value, kind) {
  if (value === null || value === undefined) return '–';
  if (kind === 'duration') return duration(value);
  if (kind === 'ratio') return `${one.format(value)} %`;
  if (kind === 'mean') return two.format(value);
  return value % 1 === 0 ? whole.format(value) : two.format(value);
}

/** For axes and narrow cells. @param {number} value @param {Kind} kind */
export function brief(value, kind) {
  if (kind === 'duration') return value === 0 ? '0' : duration(value);
  if (kind === 'ratio') return `${one.format(value)} %`;
  return value < 10 ? one.format(value) : short.format(value);
}

/**
 * The change from an earlier value, in words: never by sign or colour alone.
 * @param {number | null | undefined} now @param {number | null | undefined} before
 * @param {Kind} kind @param {-1 | 0 | 1} good
 * @returns {{ text: string, verdict: '' | 'better' | 'worse' }}
 */
export function change(now, before, kind, good) {
  const missing = { text: '', verdict: /** @type {''} */ ('') };
  if (now === null || now === undefined || before === null || before === undefined) return missing;
  const delta = now - before;
  const points = kind === 'ratio';
  if (Math.abs(delta) < (points ? 0.05 : 1e-9)) return { text: '= the same', verdict: '' };
  if (!points && before === 0) return { text: '▲ new', verdict: '' };
  const size = points ? Math.abs(delta) : Math.abs((100 * delta) / before);
  const sign = delta > 0 ? '▲ +' : '▼ −';
  const amount = size < 10 ? one.format(size) : whole.format(size);
  const verdict = good === 0 ? '' : delta > 0 === good > 0 ? 'better' : 'worse';
  if (size >= 1000) return { text: `▲ ${whole.format(now / before)} times`, verdict };
  return { text: `${sign}${amount} ${points ? (amount === '1' ? 'point' : 'points') : '%'}`, verdict };
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

/** The Unix day's noon in UTC, to count with dates. @param {string} date YYYY-MM-DD */
const utc = (date) => Date.parse(`${date}T00:00:00Z`);

/** @param {string} date @param {number} days */
export const addDays = (date, days) =>
  new Date(utc(date) + days * 86_400_000).toISOString().slice(0, 10);

/** The number of dates, both included. @param {string} from @param {string} to */
export const dates = (from, to) => Math.round((utc(to) - utc(from)) / 86_400_000) + 1;

/** True for a date of the calendar. @param {string | null} text @returns {text is string} */
export const isDate = (text) =>
  /^\d{4}-\d\d-\d\d$/.test(text ?? '') && !Number.isNaN(utc(text ?? '')) && addDays(text ?? '', 0) === text;

/** @param {string} date @param {number} months */
export function addMonths(date, months) {
  const [y, m, d] = date.split('-').map(Number);
  const first = new Date(Date.UTC(y, m - 1 + months, 1));
  const last = new Date(Date.UTC(y, m + months, 0)).getUTCDate();
  return `${first.toISOString().slice(0, 8)}${String(Math.min(d, last)).padStart(2, '0')}`;
}

/** @param {string} date @param {boolean} [year] */
export function day(date, year = false) {
  const [y, m, d] = date.split('-').map(Number);
  return `${d} ${MONTHS[m - 1]}${year ? ` ${y}` : ''}`;
}

/** @param {string} from @param {string} to */
export function span(from, to) {
  if (from === to) return `${DAYS[new Date(utc(from)).getUTCDay()]} ${day(from, true)}`;
  return `${day(from, from.slice(0, 4) !== to.slice(0, 4))} – ${day(to, true)}`;
}

/** A group's label for people, long and short. @param {string} label @returns {[string, string]} */
export function group(label) {
  let m = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)/.exec(label);
  if (m) return [`${weekday(m[1])} ${day(m[1])}, ${m[2]}`, m[2] === '00:00' ? day(m[1]) : m[2]];
  if (isDate(label)) return [`${weekday(label)} ${day(label, true)}`, day(label)];
  m = /^(\d{4})-W(\d\d)$/.exec(label);
  if (m) return [`week ${Number(m[2])} of ${m[1]}`, `W${m[2]}`];
  m = /^(\d{4})-(\d\d)$/.exec(label);
  if (m) return [`${MONTHS[Number(m[2]) - 1]} ${m[1]}`, MONTHS[Number(m[2]) - 1]];
  return [label, label];
}

/** @param {string} date */
const weekday = (date) => DAYS[new Date(utc(date)).getUTCDay()];

/**
 * An instant in a zone: date and time of day.
 * @param {number} ms @param {string} zone @returns {[string, string]}
 */
export function local(ms, zone) {
  const text = new Intl.DateTimeFormat('sv-SE', {
    timeZone: zone, year: 'numeric', month: '2-digit', day: '2-digit',
    hour: '2-digit', minute: '2-digit', second: '2-digit',
  }).format(ms);
  return [text.slice(0, 10), text.slice(11, 19)];
}

/**
 * The dates of the earlier window, as docs/metrics.md has them.
 * @param {string} from @param {string} to @param {string} previous @returns {[string, string]}
 */
export function earlier(from, to, previous) {
  const n = dates(from, to);
  if (previous === 'period') return [addDays(from, -n), addDays(to, -n)];
  const weeks = 7 * Math.ceil(n / 7);
  if (previous === 'week') return [addDays(from, -weeks), addDays(to, -weeks)];
  const months = previous === 'month' ? -1 : -12;
  const whole = from.endsWith('-01') && addDays(to, 1).endsWith('-01');
  return [addMonths(from, months), whole ? addDays(addMonths(addDays(to, 1), months), -1) : addMonths(to, months)];
}

/** The most rows of an answer, and dates of a question: limits of the service. */
const [MAX_ROWS, MAX_DATES] = [5_000, 400];
/**
 * Grains, the most dates of each, and the number of dates up to which it is chosen unasked.
 * @type {[string, number, number][]}
 */
const GRAINS = [['15min', 4, 0], ['hour', 62, 2], ['day', 400, 92], ['week', 400, 300], ['month', 400, 400]];

/**
 * What the page shows, as the controls say. `bot` and `channel` are empty for all; `compare` is
 * empty without an earlier window, and `before` names its dates.
 * @typedef {{
 *   from: string, to: string, bot: string, channel: string, grain: string, metric: number,
 *   compare: string, before: string
 * }} View
 * @typedef {{ Account: string, Name: string | null, TimeZone: string, FirstCompleteDate: string | null,
 *   Bots: { BotId: string, BotName: string, Channels: { ChannelId: string, ChannelName: string }[] }[] }} Account
 */

/** The first date that can be asked for. @param {Account} account @param {string} today */
export function earliest(account, today) {
  const oldest = addDays(today, 1 - MAX_DATES);
  return account.FirstCompleteDate && account.FirstCompleteDate > oldest ? account.FirstCompleteDate : oldest;
}

/** @param {string} name @param {string} today @returns {[string, string] | null} */
function preset(name, today) {
  switch (name) {
    case 'today': return [today, today];
    case 'yesterday': return [addDays(today, -1), addDays(today, -1)];
    case '7': case '30': return [addDays(today, 1 - Number(name)), today];
    case 'month': return [`${today.slice(0, 8)}01`, today];
    case 'year': return [`${today.slice(0, 5)}01-01`, today];
    default: return null;
  }
}

/**
 * The view that an address wishes for, within what the service answers. Anything else is ignored.
 * @param {URLSearchParams} wish @param {Account} account @param {string} today
 */
export function viewOf(wish, account, today) {
  const begin = earliest(account, today);
  const [a, b] = [wish.get('from'), wish.get('to')];
  const free = isDate(a) && isDate(b) && a <= b;
  const chosen = preset(wish.get('range') ?? '', today) ? wish.get('range') : free ? '' : '7';
  const range = preset(chosen ?? '', today) ?? (free ? [a, b] : [today, today]);
  const clamp = (/** @type {string} */ d) => (d < begin ? begin : d > today ? today : d);
  const [from, to] = [clamp(range[0]), clamp(range[1])];
  const n = dates(from, to);
  const bot = account.Bots.find((x) => x.BotId === wish.get('bot'))?.BotId ?? '';
  const channels = new Map(account.Bots.filter((x) => !bot || x.BotId === bot).flatMap((x) => x.Channels)
    .map((c) => [c.ChannelId, c.ChannelName]));
  const channel = channels.has(wish.get('channel') ?? '') ? wish.get('channel') ?? '' : '';
  const code = Number(wish.get('metric') ?? 100);
  const wanted = wish.get('compare') ?? 'period';
  const before = ['period', 'week', 'month', 'year'].includes(wanted) ? earlier(from, to, wanted) : null;
  const possible = before !== null && (account.FirstCompleteDate === null || before[0] >= account.FirstCompleteDate);
  const rows = (possible ? 2 : 1) * (channel ? channels.size : 1) * 4;
  const grains = GRAINS.filter(([grain, most]) =>
    n <= most && n * (grain === '15min' ? 96 : grain === 'hour' ? 24 : 1) * rows <= MAX_ROWS);
  const grain = (grains.find((g) => g[0] === wish.get('grain')) ?? grains.find((g) => n <= g[2]) ?? GRAINS[2])[0];
  /** @type {View} */
  const view = {
    from, to, bot, channel, grain, metric: METRICS.has(code) ? code : 100,
    compare: possible ? wanted : '', before: possible && before ? span(...before) : '',
  };
  const compare = before ? wanted : 'none';
  return { view, begin, channels, chosen, compare, grains: grains.map((g) => g[0]) };
}

/** Columns of the download: those of rows, and of what goes on now. */
const COLUMNS = ['Part', 'Period', 'GroupLabel', 'BotName', 'ChannelName', 'SplitBy', 'SplitName', 'EventLabel', 'EventType', 'Value',
  'Count', 'Sum', 'Unit', 'P50', 'P90', 'BotId', 'ChannelId', 'SplitId', 'GroupStart', 'Complete', 'Open', 'Waiting', 'WaitingActive',
  'WithOperator', 'WithBot', 'Unanswered', 'OldestRequest'];

/**
 * CSV as RFC 4180. A text that a spreadsheet would take for a formula gets a leading `'`.
 * @param {Record<string, unknown>[]} rows
 */
export function csv(rows) {
  const cell = (/** @type {unknown} */ v) => {
    if (v === null || v === undefined) return '';
    let text = String(v);
    if (typeof v === 'string' && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [COLUMNS, ...rows.map((row) => COLUMNS.map((c) => row[c]))];
  return lines.map((line) => line.map(cell).join(',')).join('\r\n') + '\r\n';
}
