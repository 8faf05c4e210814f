// The idle ledger as one bar: what is used, and each cause of what is not, add up to all there is.

import type { IdlePage } from '../api/types';

export type Resource = 'cpu' | 'memory';

export interface Part {
  /** `used`, or a cause of the ledger. */
  key: string;
  label: string;
  hint: string;
  /** Share of the capacity. */
  ratio: number;
  /** Mean over the page: cores, or bytes. */
  amount: number;
  /** Shares of workloads in it, largest first. */
  whose: { name: string; ratio: number }[];
}

/** In the order in which the ledger hands capacity out; the bar has the same. */
const CAUSES: Record<string, [string, string]> = {
  no_data: ['No fresh data', 'nothing fresh is known of these nodes'],
  draining: ['Leaving', 'given to replicas that are on their way out'],
  cooling_down: ['Cooling down', 'given to replicas that are not needed now and wait for a window to pass'],
  kept_for_failure: ['Kept by the minimum', 'given to replicas that are not needed now and that the minimum keeps'],
  blocked: ['Blocked', 'given to replicas that are not needed now and that a rule keeps from leaving'],
  over_sized: ['Given, not used', 'given to needed replicas that do not use it: their size is larger than their use'],
  fragmented: ['Too little for one more', 'free, but in CPU or memory too little for one more replica'],
  unmanaged: ['Not managed', 'on nodes where nothing may be started: the agent only observes, or the node is drained'],
  no_demand: ['No demand', 'free, and nobody needs it'],
};

const GIB = 1024 ** 3;

export function label(cause: string): string {
  return CAUSES[cause]?.[0] ?? cause.replaceAll('_', ' ');
}

/** The parts of a page, used first; undefined when there was no capacity. Parts of nothing are left out. */
export function parts(page: IdlePage, resource: Resource): Part[] | undefined {
  const pick = (amount: { cpuCoreSeconds: number; memoryGibSeconds: number }) =>
    resource === 'cpu' ? amount.cpuCoreSeconds : amount.memoryGibSeconds * GIB;
  const all = pick(page.capacity);
  const seconds = (page.toMs - page.fromMs) / 1000;
  if (!(all > 0) || !(seconds > 0)) return undefined;
  const found = new Map<string, Part>();
  const add = (key: string, text: string, hint: string, amount: number, workload?: string | null) => {
    const part = found.get(key) ?? { key, label: text, hint, ratio: 0, amount: 0, whose: [] };
    part.ratio += amount / all;
    part.amount += amount / seconds;
    if (workload) {
      const one = part.whose.find((w) => w.name === workload);
      if (one) one.ratio += amount / all;
      else part.whose.push({ name: workload, ratio: amount / all });
    }
    found.set(key, part);
  };
  add('used', 'Used', 'used by tasks', pick(page.used));
  const order = Object.keys(CAUSES);
  const place = (cause: string) => (order.includes(cause) ? order.indexOf(cause) : order.length);
  for (const line of [...page.idle].sort((a, b) => place(a.cause) - place(b.cause))) {
    const hint = CAUSES[line.cause]?.[1] ?? 'a cause that this page does not know yet';
    add(line.cause, label(line.cause), hint, pick(line), line.workload);
  }
  const parts = [...found.values()].filter((part) => part.ratio > 0 || part.key === 'used');
  for (const part of parts) part.whose.sort((a, b) => b.ratio - a.ratio);
  return parts;
}

/** Shares of causes over a longer time, largest first; what is nothing is left out. */
export function causes(
  idle: readonly { cause: string; workload?: string | null; cpuRatio: number; memoryRatio: number }[],
  resource: Resource,
): { cause: string; ratio: number; whose: string[] }[] {
  const found = new Map<string, { cause: string; ratio: number; whose: string[] }>();
  for (const line of idle) {
    const ratio = resource === 'cpu' ? line.cpuRatio : line.memoryRatio;
    if (!(ratio > 0)) continue;
    const one = found.get(line.cause) ?? { cause: line.cause, ratio: 0, whose: [] };
    one.ratio += ratio;
    if (line.workload && !one.whose.includes(line.workload)) one.whose.push(line.workload);
    found.set(line.cause, one);
  }
  return [...found.values()].sort((a, b) => b.ratio - a.ratio);
}
