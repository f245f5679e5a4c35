// Reads a number as people read it on the page.

/** Seconds of a unit. */
const SECONDS = { s: 1, min: 60, h: 3600, d: 86_400 };

/** True if the text says this value, as exactly as the page writes numbers of its kind. */
export function reads(text, value) {
  if (value === null) return ['–', '·', ''].includes(text);
  const duration = [...text.matchAll(/([\d.,]+)( ?)(s|min|h|d)\b/g)];
  if (duration.length > 0) {
    const said = duration.reduce((sum, [, number, , unit]) => sum + plain(number) * SECONDS[unit], 0);
    const [, , space, unit] = duration[duration.length - 1];
    // The heat map cuts to a whole unit: "12min".
    if (space === '' && unit !== 's') return said <= value + SECONDS[unit] / 2 && value < said + SECONDS[unit];
    const half = value < 9.995 ? 0.005 : SECONDS[unit] / 2;
    return Math.abs(said - value) <= half * 1.001;
  }
  const [, number, thousands] = text.match(/^([\d.,]+)(K|M)?( %)?$/) ?? [];
  if (number === undefined) return false;
  const factor = { K: 1e3, M: 1e6 }[thousands] ?? 1;
  return Math.abs(plain(number) * factor - value) <= 0.0501 * factor;
}

const plain = (number) => Number(number.replaceAll(',', ''));
