import { expect, it } from 'vitest';
import { link, route } from './route';

it('knows the pages', () => {
  expect(route('/')).toEqual({ page: 'fleet' });
  expect(route('/workloads/')).toEqual({ page: 'workloads' });
  expect(route('/nodes')).toEqual({ page: 'nodes' });
  expect(route('/changes')).toEqual({ page: 'changes' });
  expect(route('/what-if')).toEqual({ page: 'what-if' });
  expect(route('/what-if/web').page).toBe('missing');
  expect(route('/system/')).toEqual({ page: 'system' });
  expect(route('/nodes/x/y').page).toBe('missing');
  expect(route('/workloads/a/b').page).toBe('missing');
});

it('leads back from each link, whatever the name is', () => {
  for (const name of ['web', '../..', '<img src=x>', 'a/b?c#d', 'ä %', 'x'.repeat(300)]) {
    const to = new URL(link.workload(name), 'http://localhost');
    expect(route(to.pathname)).toEqual({ page: 'workload', name });
    expect(route(new URL(link.node(name), 'http://localhost').pathname)).toEqual({ page: 'node', name });
    expect(new URL(link.nodes(name), 'http://localhost').searchParams.get('find')).toBe(name);
    expect(new URL(link.whatIf(name), 'http://localhost').searchParams.get('workload')).toBe(name);
    expect(new URL(link.changes(name), 'http://localhost').searchParams.get('workload')).toBe(name);
  }
});

it('does not fall over an address that is none', () => {
  expect(route('/workloads/%E0%A4%A').page).toBe('missing');
});
