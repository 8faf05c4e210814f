import { expect, it } from 'vitest';
import type { Node } from '../api/types';
import { MEASURES, measure } from './measure';

const waits = { seconds: 60, runDelayMeanSeconds: 0.0001, runDelayP99Seconds: 0.03, cpuStallRatio: 0.25, memoryStallRatio: null, ioStallRatio: 0 };
const reserved = { replicas: 2, cpuCores: 2, memoryBytes: null, withoutSize: 2 };
const network = { receivedBytesPerSecond: 1000, sentBytesPerSecond: 3000, receivedBytes: 1, sentBytes: 1 };
const node = (more: object) =>
  ({ name: 'a', connected: true, cpus: 4, cpuCores: 1, memoryTotalBytes: 8, memoryBytes: null, waits, reserved, network, runDelayUnknown: null, stallsUnknown: 'boot with psi=1', ...more }) as unknown as Node;

it('knows each measure of a node, and none of one that is silent', () => {
  const all = (one: Node) => Object.fromEntries(MEASURES.map((m) => [m.key, m.value(one)]));
  expect(all(node({}))).toEqual({ cpu: 0.25, memory: undefined, run_delay_p99: 0.03, run_delay_mean: 0.0001, cpu_stall: 0.25, memory_stall: undefined, io_stall: 0, cpu_reserved: 0.5, memory_reserved: undefined, network: 3000 });
  expect(Object.values(all(node({ connected: false }))).every((value) => value === undefined)).toBe(true);
  expect(measure('cpu_stall').value(node({ waits: null }))).toBeUndefined();
});

it('darkens delays by orders of magnitude, within bounds', () => {
  const { share } = measure('run_delay_p99');
  expect([share(0), share(1e-5), share(0.001), share(0.1), share(7)]).toEqual([0, 0, expect.closeTo(0.5), 1, 1]);
  expect(measure('cpu').share(1.7)).toBe(1);
});

it('shows what was given beside what there is, and both directions of the network', () => {
  expect(measure('cpu_reserved').of(node({}))).toBe('2 of 4 cores and 2 without a size');
  expect(measure('memory_reserved').why(node({}))).toContain('no size');
  const { of, short, share } = measure('network');
  expect(of(node({}))).toBe('(received 1000 B/s, sent 2.93 KiB/s)');
  expect([0, 999, 1023.9, 2 ** 20 - 1, 150 * 2 ** 20].map(short)).toEqual(['0', '999', '1K', '1M', '150M']);
  expect([share(0), share(2 ** 20), share(2 ** 40)]).toEqual([0, expect.closeTo(0.5), 1]);
  expect(measure('network').why(node({ network: null, networkUnknown: 'no network card' }))).toBe('no network card');
});

it('says why, and falls back to CPU', () => {
  expect(measure('memory_stall').why(node({}))).toBe('boot with psi=1');
  expect(measure('memory_stall').why(node({ connected: false }))).toBe('its agent is not connected');
  expect(measure('run_delay_mean').why(node({ waits: null }))).toBe('its agent has not told it');
  expect(measure('<img>').key).toBe('cpu');
});
