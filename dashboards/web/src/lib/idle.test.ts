import { expect, it } from 'vitest';
import type { IdlePage } from '../api/types';
import { causes, parts } from './idle';

const amount = (cpuCoreSeconds: number, memoryGibSeconds: number) => ({ cpuCoreSeconds, memoryGibSeconds });
const line = (cause: string, cpu: number, memory: number, workload: string | null = null) => ({
  cause,
  workload,
  rule: null,
  ...amount(cpu, memory),
  cpuRatio: cpu / 120,
  memoryRatio: memory / 600,
});

const page: IdlePage = {
  fromMs: 0,
  toMs: 60_000,
  capacity: amount(120, 600),
  used: amount(30, 300),
  idle: [line('no_demand', 40, 300), line('over_sized', 20, 0, 'web'), line('over_sized', 25, 0, 'jobs'), line('new_cause', 5, 0)],
};

it('adds up to all there is, for both resources', () => {
  for (const resource of ['cpu', 'memory'] as const) {
    const sum = (parts(page, resource) ?? []).reduce((all, part) => all + part.ratio, 0);
    expect(sum).toBeCloseTo(1, 9);
  }
});

it('joins lines of one cause and names whose they are, largest first', () => {
  const found = parts(page, 'cpu') ?? [];
  expect(found.map((part) => part.key)).toEqual(['used', 'over_sized', 'no_demand', 'new_cause']);
  expect(found[1]?.amount).toBeCloseTo(45 / 60, 9);
  expect(found[1]?.whose.map((one) => one.name)).toEqual(['jobs', 'web']);
  expect(found[3]?.label).toBe('new cause');
});

it('leaves out what is nothing, and knows no shares of no capacity', () => {
  expect(parts(page, 'memory')?.map((part) => part.key)).toEqual(['used', 'no_demand']);
  expect(parts({ ...page, capacity: amount(0, 0) }, 'cpu')).toBeUndefined();
});

it('adds up causes of all workloads, largest first, and leaves out what is nothing', () => {
  const lines = [line('no_demand', 40, 300), line('over_sized', 20, 0, 'web'), line('over_sized', 25, 0, 'jobs')];
  expect(causes(lines, 'cpu')).toEqual([
    { cause: 'over_sized', ratio: 45 / 120, whose: ['web', 'jobs'] },
    { cause: 'no_demand', ratio: 40 / 120, whose: [] },
  ]);
  expect(causes(lines, 'memory').map((one) => one.cause)).toEqual(['no_demand']);
});
