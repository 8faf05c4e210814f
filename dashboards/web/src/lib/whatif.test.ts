import { expect, it } from 'vitest';
import type { WhatIfWorkload } from '../api/types';
import { editor, faults, read, request, sums, unplaced } from './whatif';

const of = (query: string) => read(new URLSearchParams(query));

it('reads an address, and leaves out what it does not know', () => {
  expect(of('workload=web&cpu=80&range=7d&bad=1')).toEqual({ workload: 'web', range: '7d', values: { cpu: '80' } });
  expect(of('range=99y')).toEqual({ workload: '', range: '24h', values: {} });
});

it('asks what was chosen and nothing else', () => {
  expect(request(of(''))).toEqual({ range: '24h', lose: 0 });
  const all = of('workload=web&range=6h&cpu=75&queue=20&min=2&max=9&risk=10&load=-10&headroom=25&lose=1&cpus=8&memory=32&price=0.4');
  expect(request(all)).toEqual({
    workloads: ['web'],
    range: '6h',
    target: { cpu: 0.75, queueDelayP95Ms: 20 },
    replicas: { min: 2, max: 9 },
    risk: 0.1,
    load: 0.9,
    headroom: 0.25,
    lose: 1,
    nodeType: { cpus: 8, memoryBytes: 32 * 1024 ** 3, price: 0.4 },
  });
  expect(request(of('load=0'))?.load).toBe(1);
});

it('says what is wrong at its field, and asks nothing then', () => {
  for (const [query, field] of [['cpu=400', 'cpu'], ['cpu=<img>', 'cpu'], ['min=2.5', 'min'], ['min=5&max=2', 'min'], ['cpus=8', 'memory'], ['memory=8', 'cpus'], ['price=1', 'price'], ['load=1e3', 'load'], ['lose=0.5', 'lose']] as const) {
    expect(Object.keys(faults(of(query))), query).toContain(field);
    expect(request(of(query)), query).toBeUndefined();
  }
  expect(faults(of('cpus=8&memory=32&load=+20'))).toEqual({});
});

it('leads to the editor with what has a field there', () => {
  expect(editor('web', of('cpu=75&load=20'))).toBe('/workloads/web?edit=1&spec.target.cpu=75%25');
  expect(editor('a/b', of('min=2&max=3&queue=20'))).toBe('/workloads/a%2Fb?edit=1&spec.target.queueDelayP95=20ms&spec.replicas.min=2&spec.replicas.max=3');
  expect(editor('web', of('load=20&risk=1'))).toBeUndefined();
});

it('adds up what was played, and no part that nobody knows', () => {
  const outcome = { replicaHours: 2, coreHours: 1, gibHours: 4, breachMinutes: 3, changes: 1, most: 2, cpuMillis: 500, memoryBytes: null };
  const one = (more: object) => ({ name: 'a', asIs: outcome, asked: { ...outcome, gibHours: null }, ...more }) as unknown as WhatIfWorkload;
  const both = sums([one({}), one({}), one({ asIs: null, asked: null })]);
  expect(both?.asIs).toEqual({ replicaHours: 4, coreHours: 2, breachMinutes: 6, changes: 2, gibHours: 8 });
  expect(both?.asked.gibHours).toBeUndefined();
  expect(sums([one({ asIs: null, asked: null })])).toBeUndefined();
  expect(unplaced([])).toBe('all fits');
  expect(unplaced([{ workload: 'web', count: 2 }, { workload: null, count: 1 }])).toBe('does not fit: 2 of web, what else runs on 1 node');
});
