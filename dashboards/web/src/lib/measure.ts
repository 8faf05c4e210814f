// What a heat map of nodes can show: a number of each node, and how dark that is.

import type { Node } from '../api/types';
import { bytes, cores, delay, known, number, percent } from './format';
import { use } from './reserve';

export interface Measure {
  key: string;
  /** In the list of choices, and as a heading behind "Nodes, ". */
  label: string;
  /** Column of a CSV file, with its unit. */
  column: string;
  /** In the column's unit; undefined when it is not known now. */
  value: (node: Node) => number | undefined;
  /** How dark, from 0 to 1, for a value. */
  share: (value: number) => number;
  /** From here on it is framed, in the unit of the value. */
  high: number;
  /** A value in words, and at most four characters of it. */
  text: (value: number) => string;
  short: (value: number) => string;
  /** What it is of, for one node. */
  of: (node: Node) => string;
  /** The ends of the scale. */
  ends: [string, string];
  /** Why it is not known of a node. */
  why: (node: Node) => string;
}

const away = (node: Node, else_: string | null | undefined) => (node.connected ? (else_ ?? 'its agent has not told it') : 'its agent is not connected');
const here = (node: Node, value: number | null | undefined) => (node.connected && known(value) ? value : undefined);

function used(resource: 'cpu' | 'memory', label: string): Measure {
  const of = (node: Node) => {
    const cpu = resource === 'cpu';
    const now = use(node, resource) === undefined ? '' : `${cpu ? number(node.cpuCores) : bytes(node.memoryBytes)} `;
    return `${now}of ${cpu ? cores(node.cpus) : bytes(node.memoryTotalBytes)}`;
  };
  return { ...ratio(resource, label, (node) => use(node, resource), 0.9), column: `${resource}_used_ratio`, of, why: (node) => away(node, null) };
}

function ratio(key: string, label: string, value: (node: Node) => number | undefined, high: number): Measure {
  return {
    key, label, column: `${key}_ratio`, value, high, share: (share) => Math.min(1, share), text: (share) => percent(share),
    short: (share) => `${Math.round(share * 100)}`, of: () => 'of the last minute', ends: ['0 %', '100 %'], why: (node) => away(node, node.stallsUnknown),
  };
}

/** Delays differ by orders of magnitude: each is as dark as its place between these, s, in equal steps of ten. */
const SHORT = 1e-5;
const LONG = 0.1;

function waits(key: string, label: string, value: (node: Node) => number | null | undefined): Measure {
  return {
    key, label, column: `${key}_seconds`, value: (node) => here(node, value(node)),
    share: (seconds) => Math.min(1, Math.max(0, Math.log(seconds / SHORT) / Math.log(LONG / SHORT))),
    // A request that waits for 20 ms before it runs is what people notice.
    high: 0.02, text: (seconds) => delay(seconds * 1000), short: (seconds) => (seconds < 0.001 ? '<1' : `${Math.round(seconds * 1000)}`),
    of: () => 'waited before it ran', ends: ['10 µs', '100 ms'], why: (node) => away(node, node.runDelayUnknown),
  };
}

export const MEASURES: readonly [Measure, ...Measure[]] = [
  used('cpu', 'CPU used'),
  used('memory', 'Memory used'),
  waits('run_delay_p99', 'Wait for a CPU, p99', (node) => node.waits?.runDelayP99Seconds),
  waits('run_delay_mean', 'Wait for a CPU, mean', (node) => node.waits?.runDelayMeanSeconds),
  ratio('cpu_stall', 'Stalled for CPU', (node) => here(node, node.waits?.cpuStallRatio), 0.5),
  ratio('memory_stall', 'Stalled for memory', (node) => here(node, node.waits?.memoryStallRatio), 0.1),
  ratio('io_stall', 'Stalled for IO', (node) => here(node, node.waits?.ioStallRatio), 0.5),
];

/** The one that an address asks for. */
export function measure(key: string | null): Measure {
  return MEASURES.find((one) => one.key === key) ?? MEASURES[0];
}
