import { expect, it } from 'vitest';
import type { Node, Workload } from '../api/types';
import { capacity, fresh, reserved, use, used } from './reserve';

const workload = (name: string, up: number, cpuMillis: number | null) =>
  ({ name, up, starting: 1, leaving: 0, size: { cpuMillis, memoryBytes: null } }) as unknown as Workload;
const node = (name: string, connected: boolean, cpuCores: number | null) =>
  ({ name, connected, cpus: 4, cpuCores, memoryTotalBytes: 100, memoryBytes: null, ageMs: 900 }) as unknown as Node;

it('counts what is known and names the rest', () => {
  expect(reserved([workload('a', 1, 500), workload('b', 2, null)], 'cpu')).toEqual({ value: 1, without: ['b'] });
  expect(reserved([workload('b', 2, null)], 'memory')).toEqual({ value: undefined, without: ['b'] });
  expect(reserved([], 'cpu').value).toBe(0);
  const nodes = [node('x', true, 1.5), node('y', true, null), node('z', false, 3)];
  expect(used(nodes, 'cpu')).toEqual({ value: 1.5, without: ['y', 'z'] });
  expect(used(nodes, 'memory').value).toBeUndefined();
  expect(capacity(nodes, 'cpu')).toEqual({ value: 8, without: ['z'] });
});

it('knows no use of a node that is silent', () => {
  expect([use(node('x', true, 1), 'cpu'), use(node('x', false, 1), 'cpu'), use(node('x', true, 1), 'memory')]).toEqual([0.25, undefined, undefined]);
  expect([fresh(node('x', true, 1)), fresh(node('x', false, 1))]).toEqual([true, false]);
});
