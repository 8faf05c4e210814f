import { expect, it } from 'vitest';
import type { Workload } from '../api/types';
import { millis, ratio, signals, verdicts } from './target';

it('reads units as specifications write them', () => {
  expect(['20ms', '30s', '1m30s', '1d', '0.5s'].map(millis)).toEqual([20, 30_000, 90_000, 86_400_000, 500]);
  expect(['', '20', 'ms', '20 ms', '1x', 7, null].map(millis)).toEqual(Array.from({ length: 7 }, () => undefined));
  expect([ratio('65%'), ratio('12.5%'), ratio('65'), ratio(0.65)]).toEqual([0.65, 0.125, undefined, undefined]);
});

const load = { queueDelayP95Ms: 31, utilisation: 0.5 };
const workload = (more: object) => ({ up: 2, load, ...more }) as unknown as Workload;
const spec = (target: object) => ({ spec: { target } });

it('compares signals with targets', () => {
  const [delay, cpu] = signals(spec({ queueDelayP95: '20ms', cpu: '65%' }), workload({}));
  expect([delay?.verdict, delay?.now, delay?.reached]).toEqual(['missed', '31 ms', 1.55]);
  expect([cpu?.verdict, cpu?.now]).toEqual(['met', '50 %']);
});

it('compares what clusters tell', () => {
  const told = workload({ load: { containerWaitMs: 45_000, disk: 0.58, latencyP99Ms: 12.5 } });
  const found = signals(spec({ containerWait: '30s', disk: '60%', latencyP99: '20ms' }), told);
  expect(found.map((one) => [one.now, one.verdict])).toEqual([['45 s', 'missed'], ['58 %', 'met'], ['12.5 ms', 'met']]);
});

it('counts the targets of all', () => {
  const all = [workload({ name: 'a' }), workload({ name: 'b' }), workload({ name: 'c', load: {} })];
  const documents: Record<string, unknown> = { a: spec({ queueDelayP95: '20ms', cpu: '65%' }), c: spec({ cpu: '65%' }) };
  expect(verdicts(all, (name) => documents[name])).toEqual({ met: 1, missed: 1, unknown: 1 });
});

it('calls nothing met that is not known', () => {
  for (const unknown of [workload({ load: {} }), undefined]) {
    const [one] = signals(spec({ queueDelayP95: '20ms' }), unknown);
    expect([one?.verdict, one?.now, one?.reached]).toEqual(['unknown', '–', undefined]);
    expect(one?.why).not.toBe('');
  }
  expect(signals(spec({ disk: '60%' }), workload({}))[0]?.verdict).toBe('unknown');
  expect(signals({}, workload({}))).toEqual([]);
});
