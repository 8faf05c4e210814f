// What docs/guide tells its readers to do can be done, on a real autoscaler and a real agent.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { walk } from './guide.mjs';
import { healthy, Stage, until } from './stage.mjs';

const stage = new Stage();

before(async () => {
  await stage.autoscaler();
  await stage.agent(true);
  await stage.apply('worker', 'auto', '{ min: 1, max: 3 }');
  await until('one process', () => stage.processes().length === 1);
  await stage.browse();
});

after(() => stage.close());

test('the guide: read the fleet, understand a decision, set a target and undo it', async () => {
  const { page, faults, close } = await stage.open();
  const seen = [];
  await walk({
    page,
    address: (path) => stage.writing(path),
    workload: 'worker',
    node: 'n1',
    change: { 'Use of what is given': '55%', 'Replicas at least': '2' },
    picture: async (name) => {
      seen.push(name);
      await healthy(page, `guide-${name}`);
    },
  });
  assert.deepEqual(seen, ['fleet', 'node', 'workload', 'decision', 'target', 'undo']);
  const { document, revision } = await stage.get('/workloads/worker');
  assert.deepEqual([document.spec.target, document.spec.replicas, revision], [{ cpu: '65%' }, { min: 1, max: 3 }, 3]);
  assert.deepEqual(faults, []);
  await close();
});
