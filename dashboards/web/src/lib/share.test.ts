import { expect, test } from 'vitest';
import type { Task } from '../api/types';
import { shares } from './share';

const task = (name: string, more: Partial<Task>): Task => ({ node: 'n', cgroup: 1, kind: 'service', name, totals: {}, ...more });

test('use is gathered by workload or kind, the largest first, and what is behind is one', () => {
  const tasks = [
    task('a', { workload: 'web', cpuCores: 0.5 }),
    task('b', { workload: 'web', cpuCores: 1 }),
    task('c', { cpuCores: 0.25 }),
    task('d', { kind: 'web', cpuCores: 0.75 }),
    task('e', { kind: 'idle', cpuCores: 0 }),
    task('f', { workload: 'new', cpuCores: null }),
  ];
  const { named, rest, unknown } = shares(tasks, 'cpu', 1);
  expect(named).toEqual([{ name: 'web', workload: true, amount: 1.5, tasks: 2 }]);
  expect(rest).toEqual({ name: '2 more', workload: false, amount: 1, tasks: 2 });
  expect(unknown).toBe(1);
  expect(shares(tasks, 'cpu', 9).rest).toBeUndefined();
});

test('what was not measured is in no share, and is counted', () => {
  expect(shares([task('a', { workload: 'web', cpuCores: 1 })], 'memory', 3)).toEqual({ named: [], rest: undefined, unknown: 1 });
});
