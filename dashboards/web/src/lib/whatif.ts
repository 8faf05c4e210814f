// What is asked of the page What-if: its address, the question to the interface, and the way to a workload's editor.

import type { WhatIf, WhatIfRequest, WhatIfWorkload } from '../api/types';
import { known } from './format';

/** A number that may be chosen. It is kept in the address by its name; empty: as it is. */
export interface Slide {
  name: 'cpu' | 'load' | 'risk' | 'headroom' | 'lose';
  label: string;
  hint: string;
  unit: string;
  least: number;
  most: number;
  step: number;
  /** Where the slider stands while nothing is chosen. */
  rest: number;
}

export const SLIDES: Slide[] = [
  { name: 'cpu', label: 'Target: use of what is given', hint: 'each replica is to use so much of its CPU', unit: '%', least: 5, most: 100, step: 1, rest: 65 },
  { name: 'load', label: 'More load', hint: 'than was recorded; below 0: less', unit: '%', least: -90, most: 300, step: 5, rest: 0 },
  { name: 'headroom', label: 'Headroom of a replica', hint: 'over what one used at its peak, instead of the size that is given', unit: '%', least: 0, most: 200, step: 5, rest: 0 },
  { name: 'risk', label: 'Risk setting', hint: '0 saves most, 100 is most cautious; one for all workloads', unit: '%', least: 0, most: 100, step: 5, rest: 50 },
  { name: 'lose', label: 'Lose nodes', hint: 'those with most room', unit: '', least: 0, most: 20, step: 1, rest: 0 },
];

/** Fields that are typed: what is kept in the address, and how it is read. */
export const FIELDS = ['queue', 'min', 'max', 'cpus', 'memory', 'price'] as const;
export const RANGES = ['1h', '6h', '24h', '3d', '7d', '30d'];

export interface Asked {
  workload: string;
  range: string;
  /** By name, as typed; absent: as it is. */
  values: Record<string, string>;
}

/** What an address asks. What it says that is no choice of this page is left out. */
export function read(query: URLSearchParams): Asked {
  const values: Record<string, string> = {};
  for (const name of [...SLIDES.map((one) => one.name), ...FIELDS]) {
    const text = (query.get(name) ?? '').trim().slice(0, 20);
    if (text !== '') values[name] = text;
  }
  const range = query.get('range') ?? '';
  return { workload: query.get('workload') ?? '', range: RANGES.includes(range) ? range : '24h', values };
}

const NUMBER = /^[+-]?\d{1,9}(\.\d{1,6})?$/;

function number(text: string | undefined, least: number, most: number): number | undefined {
  if (text === undefined || !NUMBER.test(text)) return undefined;
  const value = Number(text);
  return value >= least && value <= most ? value : undefined;
}

const LIMITS: Record<string, [number, number, string]> = {
  ...Object.fromEntries(SLIDES.map((one): [string, [number, number, string]] => [one.name, [one.least, one.most, `a number from ${one.least} to ${one.most}`]])),
  queue: [1, 3_600_000, 'whole milliseconds from 1'],
  min: [1, 1000, 'a whole number from 1 to 1000'],
  max: [1, 1000, 'a whole number from 1 to 1000'],
  cpus: [0.001, 4096, 'a number above 0, at most 4096'],
  memory: [0.001, 1_048_576, 'GiB, a number above 0'],
  price: [0, 1_000_000, 'a number from 0'],
};
const WHOLE = ['queue', 'min', 'max', 'lose'];

/** What is wrong with what was typed, by field, in words. */
export function faults({ values }: Asked): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, text] of Object.entries(values)) {
    const [least, most, words] = LIMITS[name] ?? [0, 0, ''];
    const value = number(text, least, most);
    if (value === undefined || (WHOLE.includes(name) && !Number.isInteger(value))) found[name] = words;
  }
  const [min, max] = [Number(values['min']), Number(values['max'])];
  if (values['min'] !== undefined && values['max'] !== undefined && found['min'] === undefined && min > max) found['min'] = 'at most as many as at most';
  if ((values['cpus'] === undefined) !== (values['memory'] === undefined)) {
    const name = values['cpus'] === undefined ? 'cpus' : 'memory';
    found[name] ??= 'a type of node needs both CPUs and memory';
  }
  if (values['price'] !== undefined && values['cpus'] === undefined && values['memory'] === undefined) found['price'] ??= 'a price needs a type of node: its CPUs and memory';
  return found;
}

/** The question as the interface wants it; undefined while something is wrong with it. */
export function request(asked: Asked): WhatIfRequest | undefined {
  if (Object.keys(faults(asked)).length > 0) return undefined;
  const { values } = asked;
  const of = (name: string) => (values[name] === undefined ? undefined : Number(values[name]));
  const share = (name: string) => {
    const value = of(name);
    return value === undefined ? undefined : round(value / 100);
  };
  const [cpu, queue, min, max, load] = [share('cpu'), of('queue'), of('min'), of('max'), share('load')];
  const [risk, headroom, cpus, memory, price] = [share('risk'), share('headroom'), of('cpus'), of('memory'), of('price')];
  return {
    ...(asked.workload === '' ? {} : { workloads: [asked.workload] }),
    range: asked.range,
    ...(cpu === undefined && queue === undefined ? {} : { target: { ...(cpu === undefined ? {} : { cpu }), ...(queue === undefined ? {} : { queueDelayP95Ms: queue }) } }),
    ...(min === undefined && max === undefined ? {} : { replicas: { ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) } }),
    ...(risk === undefined ? {} : { risk }),
    ...(load === undefined ? {} : { load: round(1 + load) }),
    ...(headroom === undefined ? {} : { headroom }),
    lose: of('lose') ?? 0,
    ...(cpus === undefined || memory === undefined ? {} : { nodeType: { cpus, memoryBytes: Math.round(memory * 1024 ** 3), ...(price === undefined ? {} : { price }) } }),
  };
}

function round(value: number): number {
  return Math.round(value * 1e9) / 1e9;
}

/** The address of a workload's editor with what was asked in its fields; undefined when nothing of it has a field there. */
export function editor(name: string, { values }: Asked): string | undefined {
  const query = new URLSearchParams({ edit: '1' });
  if (values['cpu'] !== undefined) query.set('spec.target.cpu', `${values['cpu']}%`);
  if (values['queue'] !== undefined) query.set('spec.target.queueDelayP95', `${values['queue']}ms`);
  if (values['min'] !== undefined) query.set('spec.replicas.min', values['min']);
  if (values['max'] !== undefined) query.set('spec.replicas.max', values['max']);
  return [...query.keys()].length > 1 ? `/workloads/${encodeURIComponent(name)}?${query}` : undefined;
}

/** Sums over the workloads that were played; undefined when none was, or when a part is not known. */
export function sums(workloads: readonly WhatIfWorkload[]): { asIs: Sums; asked: Sums } | undefined {
  const played = workloads.filter((one) => one.asIs != null && one.asked != null);
  if (played.length === 0) return undefined;
  const sum = (of: 'asIs' | 'asked'): Sums => {
    const all = played.map((one) => one[of]!);
    const total = (key: 'replicaHours' | 'coreHours' | 'breachMinutes' | 'changes') => all.reduce((a, one) => a + one[key], 0);
    const gib = all.map((one) => one.gibHours);
    return {
      replicaHours: total('replicaHours'),
      coreHours: total('coreHours'),
      breachMinutes: total('breachMinutes'),
      changes: total('changes'),
      gibHours: gib.every(known) ? gib.reduce((a: number, b) => a + b, 0) : undefined,
    };
  };
  return { asIs: sum('asIs'), asked: sum('asked') };
}

export interface Sums {
  replicaHours: number;
  coreHours: number;
  breachMinutes: number;
  changes: number;
  gibHours: number | undefined;
}

/** What does not fit, in words. */
export function unplaced(all: readonly { workload?: string | null; count: number }[]): string {
  if (all.length === 0) return 'all fits';
  const of = (one: { workload?: string | null; count: number }) => (one.workload == null ? `what else runs on ${one.count} ${one.count === 1 ? 'node' : 'nodes'}` : `${one.count} of ${one.workload.slice(0, 80)}`);
  return `does not fit: ${all.slice(0, 5).map(of).join(', ')}${all.length > 5 ? `, ${all.length - 5} more` : ''}`;
}

/** Times of a series' values, ms: the end of each step. */
export function times(answer: WhatIf, one: WhatIfWorkload): number[] {
  const series = one.series;
  return series ? series.load.map((_, i) => Math.min(answer.toMs, answer.fromMs + (i + 1) * series.stepMs)) : [];
}
