import { expect, it } from 'vitest';
import { at, differences, edited, fields, replicas, suggested, values } from './spec';

const document = {
  apiVersion: 'trimtab/v1',
  metadata: { name: 'web' },
  spec: { type: 'rails', replicas: { min: 2, max: 20 }, target: { queueDelayP95: '20ms' }, mode: 'auto', rails: { launcher: 'puma-web', parameters: {} } },
};

it('has a field for each target of the type, and for one that it does not know', () => {
  expect(fields(document).map((one) => one.path)).toEqual(['spec.target.queueDelayP95', 'spec.target.cpu', 'spec.replicas.min', 'spec.replicas.max', 'spec.mode']);
  const later = { spec: { type: 'later', target: { shiny: 1 } } };
  expect(fields(later).map((one) => one.path)).toContain('spec.target.shiny');
  expect(fields({ spec: { type: 'service', target: {} } })[0]?.needed).toBe(true);
  expect(values(document)['spec.replicas.max']).toBe('20');
  expect(values(document)['spec.target.cpu']).toBe('');
});

it('changes what the form changed and nothing else', () => {
  const form = { ...values(document), 'spec.target.cpu': ' 65% ', 'spec.target.queueDelayP95': '', 'spec.replicas.min': '3' };
  const made = edited(document, form);
  expect(made['spec']).toEqual({ ...document.spec, replicas: { min: 3, max: 20 }, target: { cpu: '65%' } });
  expect(edited(document, values(document))).toEqual(document);
  expect(document.spec.replicas.min).toBe(2);
});

it('sends what is no number as it is, for the interface to refuse', () => {
  for (const text of ['-1', '2.5', 'many', '1e3', '99999999999']) expect(at(edited(document, { ...values(document), 'spec.replicas.min': text }), 'spec.replicas.min')).toBe(text);
});

it('tells each leaf that differs', () => {
  expect(differences(document, edited(document, { ...values(document), 'spec.mode': 'observe', 'spec.target.cpu': '65%' }))).toEqual([
    { path: 'spec.mode', before: 'auto', after: 'observe' },
    { path: 'spec.target.cpu', before: undefined, after: '65%' },
  ]);
  expect(differences({ a: {}, b: null }, { a: [1] })).toEqual([
    { path: 'a', before: '(empty)', after: undefined },
    { path: 'a.0', before: undefined, after: '1' },
  ]);
  expect(differences(document, structuredClone(document))).toEqual([]);
});

it('says what happens to replicas', () => {
  expect(replicas(2, [3, 5], 'auto')).toBe('2 wanted now, afterwards between 3 and 5: 1 more must start.');
  expect(replicas(8, [2, 5], 'recommend')).toContain('3 must end. Mode recommend: it is only said');
  expect(replicas(3, [3, 3], 'auto')).toContain('exactly 3');
  expect(replicas(null, [1, 2], 'auto')).toContain('not known');
});

it('takes from an address what has a field, and never how far it may go', () => {
  const query = new URLSearchParams('edit=1&spec.target.cpu=75%25&spec.replicas.min=3&spec.mode=auto&spec.rails.launcher=sh&metadata.name=x');
  expect(suggested(document, query)).toEqual({ 'spec.target.cpu': '75%', 'spec.replicas.min': '3' });
});
