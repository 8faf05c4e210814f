// What-if on real daemons: what they record of real processes is played with other settings, and saved as a plan.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { healthy, Stage, until } from './stage.mjs';

const stage = new Stage();
/** About a twentieth of a core each. */
const BUSY = '["/bin/sh", "-c", "while :; do i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 0.1; done"]';
/** Two minutes and what is not written yet, ms: history has whole minutes. */
const RECORDED = 300_000;

before(async () => {
  await stage.autoscaler();
  await stage.agent(true, BUSY);
  await stage.apply('worker', 'auto', '{ min: 2, max: 3 }', '  size: { cpu: 500m, memory: 256Mi }\n  behavior: { shrinkAfter: 10s, growAfter: 2s, growCooldown: 1s, shrinkCooldown: 5s }\n');
  await stage.browse();
});

after(() => stage.close());

const ask = async (question) => (await fetch(`http://${stage.at.api}/api/v1/what-if`, { method: 'POST', body: JSON.stringify(question) })).json();
const result = (page) => page.getByRole('region', { name: 'Result' });
/** Keeps what a page asks, newest last. */
const asking = (page) => {
  const asked = [];
  page.on('request', (request) => new URL(request.url()).pathname === '/api/v1/what-if' && asked.push(request.postDataJSON()));
  return asked;
};

test('while too little is recorded the page says what is missing and when it is enough', async () => {
  const { page, faults, close } = await stage.open();
  await page.goto(`http://${stage.at.api}/what-if?range=1h`);
  await page.getByText(/worker is not replayed: (nothing was recorded|only)/).waitFor();
  await page.getByText(/There is enough at about/).waitFor();
  assert.match(await result(page).textContent(), /Replica-hours–/, 'what is not known is no number');
  await healthy(page, 'whatif-short');
  assert.deepEqual(faults, []);
  await close();
});

test('recorded load is played, asked about by sliders and the keyboard, and saved as a plan', async () => {
  const end = Date.now() + RECORDED;
  for (;;) {
    const [one] = (await ask({ range: '1h' })).workloads;
    if (one?.asIs) break;
    assert.ok(Date.now() < end, `too little was recorded within ${RECORDED / 1000} s: ${JSON.stringify(one)}`);
    await sleep(2000);
  }
  // A page without a session may ask: nothing is changed by it.
  const { page, faults, close } = await stage.open();
  const asked = asking(page);
  const sent = [];
  page.on('request', (request) => request.method() !== 'GET' && sent.push(new URL(request.url()).pathname));
  await page.goto(`http://${stage.at.api}/what-if?range=1h`);
  await page.getByRole('region', { name: 'Over time' }).waitFor();
  await page.getByRole('slider', { name: 'Target: use of what is given, slider' }).focus();
  await page.keyboard.press('Home');
  await page.waitForURL(/cpu=5(&|$)/);
  await result(page).getByText(/→/).first().waitFor();
  await page.getByLabel('Replicas at most', { exact: false }).fill('7');
  await page.keyboard.press('Tab');
  await page.waitForURL(/max=7/);
  await page.getByLabel('CPUs of a node').fill('1');
  await page.keyboard.press('Tab');
  await page.getByText('a type of node needs both CPUs and memory').waitFor();
  await page.getByLabel('Memory of a node, GiB').fill('64');
  await page.getByLabel('Price of a node, an hour').fill('0.5');
  await page.keyboard.press('Tab');
  await result(page).getByText('Cost an hour').waitFor();
  await page.getByText(/^Played from/).waitFor();
  // The address says it all.
  const { page: other, close: closeOther } = await stage.open({ colorScheme: 'dark', viewport: { width: 360, height: 800 } });
  // Their answers may differ: record and nodes go on between them.
  const askedThere = asking(other);
  await other.goto(page.url());
  await result(other).getByText('Cost an hour').waitFor();
  assert.deepEqual(askedThere.at(-1), asked.at(-1));
  assert.deepEqual(asked.at(-1).nodeType, { cpus: 1, memoryBytes: 64 * 2 ** 30, price: 0.5 });
  await other.getByRole('button', { name: 'Table' }).first().click();
  await other.getByRole('group', { name: 'Table of Replicas' }).getByText('as asked').waitFor();
  await healthy(other, 'whatif-played-360-dark');
  await closeOther();
  const differing = page.getByRole('region', { name: 'Differing decisions' }).locator('summary').first();
  await differing.click();
  await page.getByText('As asked:').first().waitFor();
  await healthy(page, 'whatif-played');
  await page.getByRole('region', { name: 'Over time' }).getByRole('button', { name: 'As API call' }).click();
  await page.getByText(/-d '.*"cpu":0\.05/).first().waitFor();
  assert.ok(sent.every((path) => path === '/api/v1/what-if'), String(sent));
  const [{ revision }] = [await stage.get('/workloads/worker')];

  const { page: writing, close: closeWriting } = await stage.open();
  await writing.goto(stage.writing(new URL(page.url()).pathname + new URL(page.url()).search));
  await writing.getByRole('link', { name: 'Save as plan…' }).click();
  const form = writing.getByRole('form', { name: 'Targets of this workload' });
  await form.getByLabel('Replicas at most').waitFor();
  assert.equal(await form.getByLabel('Replicas at most').inputValue(), '7');
  assert.equal(await form.getByLabel('Use of what is given').inputValue(), '5%');
  assert.equal((await stage.get('/workloads/worker')).revision, revision, 'nothing is applied by asking');
  await form.getByLabel('Use of what is given').fill('60%');
  await writing.getByRole('button', { name: 'Preview', exact: true }).click();
  await writing.getByRole('region', { name: 'Preview' }).getByText('spec.replicas.max').waitFor();
  await writing.getByRole('button', { name: 'Apply', exact: true }).click();
  await until('the plan in force', async () => (await stage.get('/workloads/worker')).document.spec.replicas.max === 7);
  // What was suggested is no longer in the address.
  await writing.waitForURL((url) => url.pathname === '/workloads/worker' && url.search === '');
  assert.deepEqual(faults, []);
  await closeWriting();
  await close();
});
