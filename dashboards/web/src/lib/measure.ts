// What a heat map of nodes can show: a number of each node, and how dark that is.

import type { Node } from '../api/types';
import { bytes, cores, delay, known, number, percent } from './format';
import { given, share, use, whole } from './reserve';

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

const ofAll = (node: Node, resource: 'cpu' | 'memory') => `of ${(resource === 'cpu' ? cores : bytes)(whole(node, resource))}`;

function used(resource: 'cpu' | 'memory', label: string): Measure {
  const of = (node: Node) => {
    const now = use(node, resource) === undefined ? '' : `${resource === 'cpu' ? number(node.cpuCores) : bytes(node.memoryBytes)} `;
    return `${now}${ofAll(node, resource)}`;
  };
  return { ...ratio(resource, label, (node) => use(node, resource), 0.9), column: `${resource}_used_ratio`, of, why: (node) => away(node, null) };
}

function ratio(key: string, label: string, value: (node: Node) => number | undefined, high: number): Measure {
  return {
    key, label, column: `${key}_ratio`, value, high, share: (share) => Math.min(1, share), text: (share) => percent(share),
    short: (share) => `${Math.round(share * 100)}`, of: () => 'of the last minute', ends: ['0 %', '100 %'], why: (node) => away(node, node.stallsUnknown),
  };
}

/** Given to Trimtab's own; it may be more than there is. */
function reserved(resource: 'cpu' | 'memory', label: string): Measure {
  const value = (node: Node) => share(node, resource, given(node, resource));
  const of = (node: Node) => {
    const [now, without] = [here(node, given(node, resource)), node.reserved?.withoutSize ?? 0];
    return `${resource === 'cpu' ? number(now) : bytes(now)} ${ofAll(node, resource)}${without > 0 ? ` and ${without} without a size` : ''}`;
  };
  const why = (node: Node) => away(node, node.reserved?.replicas ? 'what runs there has no size in its specification' : null);
  return { ...ratio(`${resource}_reserved`, label, value, 1), of, why };
}

/** In equal steps of ten between these, bytes per second; framed where a gigabit card has little left. */
const QUIET = 1024;
const BUSY = 2 ** 30;
const HIGH = 100 * 2 ** 20;

/** What goes over a node's network, each way. */
export const directions = (network: NonNullable<Node['network']>): string =>
  `received ${bytes(network.receivedBytesPerSecond)}/s, sent ${bytes(network.sentBytesPerSecond)}/s`;

function network(): Measure {
  return {
    key: 'network', label: 'Network', column: 'network_bytes_per_second', high: HIGH,
    value: (node) => here(node, node.network && Math.max(node.network.receivedBytesPerSecond, node.network.sentBytesPerSecond)),
    share: (rate) => steps(rate, QUIET, BUSY), text: (rate) => `${bytes(rate)}/s`, short: (rate) => brief(rate),
    of: (node) => (node.network ? `(${directions(node.network)})` : ''),
    ends: [`${bytes(QUIET)}/s`, `${bytes(BUSY)}/s`], why: (node) => away(node, node.networkUnknown),
  };
}

/** Between two ends, in equal steps of ten. */
const steps = (value: number, from: number, to: number) => Math.min(1, Math.max(0, Math.log(value / from) / Math.log(to / from)));

/** At most four characters of an amount of bytes. */
function brief(value: number): string {
  const unit = ['', 'K', 'M', 'G'].map((name, i) => [name, 1024 ** i] as const).findLast(([, size]) => value >= size * 0.9995) ?? ['', 1];
  return `${Math.round(value / unit[1])}${unit[0]}`;
}

/** Delays differ by orders of magnitude: each is as dark as its place between these, s, in equal steps of ten. */
const SHORT = 1e-5;
const LONG = 0.1;

function waits(key: string, label: string, value: (node: Node) => number | null | undefined): Measure {
  return {
    key, label, column: `${key}_seconds`, value: (node) => here(node, value(node)),
    share: (seconds) => steps(seconds, SHORT, LONG),
    // A request that waits for 20 ms before it runs is what people notice.
    high: 0.02, text: (seconds) => delay(seconds * 1000), short: (seconds) => (seconds < 0.001 ? '<1' : `${Math.round(seconds * 1000)}`),
    of: () => 'waited before it ran', ends: ['10 µs', '100 ms'], why: (node) => away(node, node.runDelayUnknown),
  };
}

export const MEASURES: readonly [Measure, ...Measure[]] = [
  used('cpu', 'CPU used'),
  used('memory', 'Memory used'),
  reserved('cpu', 'CPU reserved'),
  reserved('memory', 'Memory reserved'),
  waits('run_delay_p99', 'Wait for a CPU, p99', (node) => node.waits?.runDelayP99Seconds),
  waits('run_delay_mean', 'Wait for a CPU, mean', (node) => node.waits?.runDelayMeanSeconds),
  ratio('cpu_stall', 'Stalled for CPU', (node) => here(node, node.waits?.cpuStallRatio), 0.5),
  ratio('memory_stall', 'Stalled for memory', (node) => here(node, node.waits?.memoryStallRatio), 0.1),
  ratio('io_stall', 'Stalled for IO', (node) => here(node, node.waits?.ioStallRatio), 0.5),
  network(),
];

/** The one that an address asks for. */
export function measure(key: string | null): Measure {
  return MEASURES.find((one) => one.key === key) ?? MEASURES[0];
}
