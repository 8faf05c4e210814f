// A workload's targets beside what its signals say now.

import type { Workload } from '../api/types';
import { delay, known, percent, UNKNOWN } from './format';

export interface Signal {
  name: string;
  /** The target as the specification writes it. */
  target: string;
  now: string;
  /** Share of the target that is reached; undefined while the signal is not known. */
  reached: number | undefined;
  verdict: 'met' | 'missed' | 'unknown';
  /** Why the signal is not known. */
  why: string;
}

const SCALE: Record<string, number> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `20ms` or `1m30s` in ms; undefined for what is no length of time. */
export function millis(text: unknown): number | undefined {
  if (typeof text !== 'string' || !/^(\d+(\.\d+)?(us|ms|s|m|h|d))+$/.test(text)) return undefined;
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+(?:\.\d+)?)(us|ms|s|m|h|d)/g)) sum += Number(count) * (SCALE[unit ?? ''] ?? 0);
  return sum;
}

/** `65%` as a share of 1. */
export function ratio(text: unknown): number | undefined {
  if (typeof text !== 'string' || !/^\d+(\.\d+)?%$/.test(text)) return undefined;
  return Number.parseFloat(text) / 100;
}

type Targets = Record<string, unknown>;

/** The targets of a specification's document. */
export function targets(document: unknown): Targets {
  const spec = (document as { spec?: { target?: unknown } } | null | undefined)?.spec;
  return typeof spec?.target === 'object' && spec.target !== null ? (spec.target as Targets) : {};
}

const NAMES: Record<string, string> = {
  queueDelayP95: 'Queue delay, p95',
  cpu: 'Use of what is given',
  containerWait: 'Wait for a container',
  disk: 'Disk in use',
  latencyP99: 'Request latency, p99',
};

const CLUSTER = 'no fresh report of the cluster tells it';

/** Each target with its signal. */
export function signals(document: unknown, workload: Workload | undefined): Signal[] {
  return Object.entries(targets(document)).map(([key, written]) => {
    const name = NAMES[key] ?? key;
    const target = String(written);
    const load = workload?.load;
    if (key === 'queueDelayP95') return compared(name, target, load?.queueDelayP95Ms, millis(written), delay, silence(workload));
    if (key === 'containerWait') return compared(name, target, load?.containerWaitMs, millis(written), delay, CLUSTER);
    if (key === 'disk') return compared(name, target, load?.disk, ratio(written), percent, CLUSTER);
    if (key === 'latencyP99') return compared(name, target, load?.latencyP99Ms, millis(written), delay, CLUSTER);
    if (key === 'cpu') return compared(name, target, load?.utilisation, ratio(written), percent, silence(workload));
    return { name, target, now: UNKNOWN, reached: undefined, verdict: 'unknown', why: 'this page does not know this target' };
  });
}

/** How many targets of all workloads are met, missed, unknown. */
export function verdicts(workloads: readonly Workload[], document: (name: string) => unknown): Record<Signal['verdict'], number> {
  const sum = { met: 0, missed: 0, unknown: 0 };
  for (const one of workloads) for (const signal of signals(document(one.name), one)) sum[signal.verdict] += 1;
  return sum;
}

function silence(workload: Workload | undefined): string {
  if (workload === undefined) return 'nothing is known of this workload yet';
  return workload.up === 0 ? 'no replica is up' : 'nothing was measured lately: without requests there is nothing to measure';
}

function compared(
  name: string,
  target: string,
  now: number | null | undefined,
  limit: number | undefined,
  format: (value: number) => string,
  why: string,
): Signal {
  if (!known(now) || limit === undefined || limit === 0) return { name, target, now: UNKNOWN, reached: undefined, verdict: 'unknown', why };
  return { name, target, now: format(now), reached: now / limit, verdict: now <= limit ? 'met' : 'missed', why: '' };
}
