// Numbers for people. What is not known is never a number: it is the dash below, and the caller says why.

export const UNKNOWN = '–';

type Maybe = number | null | undefined;

export function known(value: Maybe): value is number {
  return value !== null && value !== undefined && Number.isFinite(value);
}

/** As many digits as tell something: 0.03, 1.98, 12.4, 340. */
export function number(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (Number.isInteger(value)) return value.toLocaleString('en-GB');
  if (size < 0.01) return '<0.01';
  if (size < 10) return value.toFixed(2);
  if (size < 100) return value.toFixed(1);
  return Math.round(value).toLocaleString('en-GB');
}

export function cores(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  return `${number(value)} ${value === 1 ? 'core' : 'cores'}`;
}

/** A share of 1. */
export function percent(ratio: Maybe, digits = 0): string {
  return known(ratio) ? `${(ratio * 100).toFixed(digits)} %` : UNKNOWN;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function bytes(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  let rest = value;
  let unit = 0;
  while (Math.abs(rest) >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? rest : rest < 10 ? rest.toFixed(2) : rest < 100 ? rest.toFixed(1) : rest.toFixed(0)} ${UNITS[unit]}`;
}

/** A length of time, in its one or two largest units. */
export function span(ms: Maybe): string {
  if (!known(ms)) return UNKNOWN;
  if (ms < 0) return '0 s';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return s % 60 && m < 10 ? `${m} min ${s % 60} s` : `${m} min`;
  const h = Math.floor(m / 60);
  if (h < 48) return m % 60 && h < 10 ? `${h} h ${m % 60} min` : `${h} h`;
  return `${Math.floor(h / 24)} d`;
}

/** Milliseconds of a signal: 4.2 ms, 340 ms, 1.2 s. */
export function delay(ms: Maybe): string {
  if (!known(ms)) return UNKNOWN;
  if (ms < 1000) return `${number(ms)} ms`;
  return ms < 60_000 ? `${number(ms / 1000)} s` : span(ms);
}

/** Whether a clock is so far from ours, a second, that it is worth a look. */
export function skewed(ms: Maybe): boolean {
  return known(ms) && Math.abs(ms) >= 1_000;
}

/** How a clock stands beside ours: `4 ms behind`, `2 s ahead`. */
export function skew(ms: Maybe): string {
  if (!known(ms)) return UNKNOWN;
  return `${delay(Math.abs(ms))} ${ms < 0 ? 'behind' : 'ahead'}`;
}

/** Whole seconds ago, so that a row does not flicker below a second. */
export function ago(ms: Maybe): string {
  if (!known(ms)) return UNKNOWN;
  return ms < 1000 ? 'now' : `${span(ms)} ago`;
}

const TIME = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const DATE = new Intl.DateTimeFormat('en-GB', {
  year: 'numeric',
  month: 'short',
  day: '2-digit',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZoneName: 'short',
});

export function time(ms: Maybe): string {
  return known(ms) ? TIME.format(ms) : UNKNOWN;
}

/** The label of a tick: the time, or, where many days are shown, the day at its midnight. */
export function tick(ms: number, days: boolean, seconds: boolean): string {
  const text = TIME.format(ms);
  if (days && text === '00:00:00') return DAY.format(ms);
  return seconds ? text : text.slice(0, 5);
}

/** The time, with its day where many days are shown. */
export function moment(ms: Maybe, days: boolean): string {
  return known(ms) && days ? `${DAY.format(ms)} ${TIME.format(ms).slice(0, 5)}` : time(ms);
}

/** The time, or the day of what is older than most of a day. */
export function when(ms: Maybe, now: number): string {
  return known(ms) && now - ms > 20 * 3_600_000 ? DAY.format(ms) : time(ms);
}

export function date(ms: Maybe): string {
  return known(ms) ? DATE.format(ms) : UNKNOWN;
}

/** `scale_out` → `scale out`. */
export function words(code: string): string {
  return code.replaceAll('_', ' ');
}

/**
 * Shares as percentages of one decimal that add up to exactly what their sum rounds to: those with the largest
 * remainders are rounded up.
 */
export function shares(ratios: readonly number[]): string[] {
  const tenths = ratios.map((ratio) => ratio * 1000);
  const floors = tenths.map(Math.floor);
  let left = Math.round(tenths.reduce((a, b) => a + b, 0)) - floors.reduce((a, b) => a + b, 0);
  const byRemainder = tenths.map((t, i) => ({ i, rest: t - Math.floor(t) })).sort((a, b) => b.rest - a.rest);
  for (const { i } of byRemainder) {
    if (left <= 0) break;
    floors[i] = (floors[i] ?? 0) + 1;
    left -= 1;
  }
  return floors.map((t) => `${(t / 10).toFixed(1)} %`);
}
