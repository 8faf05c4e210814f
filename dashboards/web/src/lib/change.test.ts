import { expect, it } from 'vitest';
import type { Decision, Workload } from '../api/types';
import { history, price } from './change';

const decision = (id: string, atMs: number, more: object = {}) =>
  ({ id, atMs, workload: 'web', act: true, kind: 'scale_out', before: 2, after: 3, reasons: [{ code: 'x', text: 'because', detail: {} }], predicted: null, realised: null, ...more }) as unknown as Decision;
const past = (more: object = {}) => ({ member: '10.0.0.3', direction: 'in', ended: 'done', beganMs: 1_000, tookMs: 1_000_000, estimateS: 500, bytes: 1024, ...more });
const ring = (...all: object[]) => ({ name: 'ring', cluster: { past: all } }) as unknown as Workload;

it('reads the price that a decision names', () => {
  const named = decision('1', 1, { reasons: [{ code: 'price', text: '', detail: { member: 'a', seconds: 60, bytes: 7, risk: 'none' } }] });
  expect(price(named)).toEqual({ member: 'a', seconds: 60, bytes: 7, risk: 'none' });
  expect(price(decision('1', 1))).toBeUndefined();
  expect(price(decision('1', 1, { reasons: [{ code: 'price', text: '', detail: {} }] }))).toBeUndefined();
});

it('puts what was predicted beside what came', () => {
  const of = (more: object) => history([decision('1', 1, more)], [], { workload: '', kind: '' }, true)[0];
  const both = of({ predicted: { afterMs: 12_000, utilisation: 0.61, load: 3 }, realised: { afterMs: 12_000, utilisation: 0.58, load: 2.9, serving: 3 } });
  expect([both?.predicted, both?.actual]).toEqual(['61 % use, load of 3 after 12 s', '58 % use, load of 2.90, 3 serving']);
  expect([of({})?.predicted, of({})?.actual, of({})?.unknown]).toEqual(['–', '–', 'this decision predicts nothing']);
  const [change] = history([], [ring(past())], { workload: '', kind: '' }, true);
  expect([change?.what, change?.predicted, change?.actual]).toEqual(['10.0.0.3 went', '8 min 20 s, 1.00 KiB', '16 min, 2 times as long']);
});

it('is in order of time, and filters', () => {
  const decisions = [decision('3', 3_000_000), decision('2', 900_000, { kind: 'scale_in', act: false })];
  const keys = (workload: string, kind: string, all = true) => history(decisions, [ring(past(), past({ beganMs: 5, tookMs: 5, ended: 'failed' }))], { workload, kind }, all).map((one) => one.key);
  expect(keys('', '')).toEqual(['d3', 'cring 10.0.0.3 1000', 'd2', 'cring 10.0.0.3 5']);
  expect(keys('', '', false)).toEqual(['d3', 'cring 10.0.0.3 1000', 'd2']);
  expect(keys('web', '')).toEqual(['d3', 'd2']);
  expect(keys('', 'member_went')).toHaveLength(2);
  expect(keys('web', 'scale_in')).toEqual(['d2']);
});
