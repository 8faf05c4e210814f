// What workloads were given, as far as it is known.

import type { Node, Workload } from '../api/types';
import { known } from './format';
import type { Resource } from './idle';

export interface Sum {
  /** Undefined when nothing of it is known. */
  value: number | undefined;
  /** Names that are not in it because their part is not known. */
  without: string[];
}

function add(sum: Sum, name: string, value: number | null | undefined): void {
  if (known(value)) sum.value = (sum.value ?? 0) + value;
  else sum.without.push(name);
}

/** Given to replicas: each replica that runs, times the size of one. */
export function reserved(workloads: readonly Workload[], resource: Resource): Sum {
  const sum: Sum = { value: workloads.length === 0 ? 0 : undefined, without: [] };
  for (const one of workloads) {
    const replicas = one.up + one.starting + one.leaving;
    const size = resource === 'cpu' ? one.size.cpuMillis : one.size.memoryBytes;
    if (replicas === 0) sum.value ??= 0;
    else add(sum, one.name, known(size) ? (replicas * size) / (resource === 'cpu' ? 1000 : 1) : undefined);
  }
  return sum;
}

/** All there is on connected nodes. */
export function capacity(nodes: readonly Node[], resource: Resource): Sum {
  const sum: Sum = { value: undefined, without: [] };
  for (const node of nodes) add(sum, node.name, node.connected ? (resource === 'cpu' ? node.cpus : node.memoryTotalBytes) : undefined);
  return sum;
}

/** In use now on connected nodes. */
export function used(nodes: readonly Node[], resource: Resource): Sum {
  const sum: Sum = { value: undefined, without: [] };
  for (const node of nodes) add(sum, node.name, node.connected ? (resource === 'cpu' ? node.cpuCores : node.memoryBytes) : undefined);
  return sum;
}

/** All that one node has. */
export const whole = (node: Node, resource: Resource): number => (resource === 'cpu' ? node.cpus : node.memoryTotalBytes);

/** Given to Trimtab's own on one node, without what has no size. */
export const given = (node: Node, resource: Resource): number | null | undefined =>
  resource === 'cpu' ? node.reserved?.cpuCores : node.reserved?.memoryBytes;

/** Use of one node as a share; undefined when it is not known, or old. */
export const use = (node: Node, resource: Resource): number | undefined => share(node, resource, resource === 'cpu' ? node.cpuCores : node.memoryBytes);

/** A part of one node as a share, likewise. */
export function share(node: Node, resource: Resource, part: number | null | undefined): number | undefined {
  const all = whole(node, resource);
  return node.connected && known(part) && all > 0 ? part / all : undefined;
}

/** Samples come once a second, and less often while nothing changes; older than this is not fresh, ms. */
export const STALE = 15_000;

export function fresh(node: Node): boolean {
  return node.connected && known(node.ageMs) && node.ageMs <= STALE;
}
