// What the pages show: each in both themes and three widths, with sick fleets and hostile names, over restarts.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HOSTILE, LONG, serve } from './sample.mjs';
import { healthy, PATIENCE, Stage } from './stage.mjs';

const PAGES = { fleet: '/', workloads: '/workloads', workload: '/workloads/worker', nodes: '/nodes', node: '/nodes/n1', changes: '/changes', whatif: '/what-if', system: '/system' };
const SHOWN = { fleet: 'Last decisions', nodes: '1 node', node: 'Last tasks that ended', changes: 'What was done', whatif: 'is not replayed', system: 'Faults since its start' };

const stage = new Stage();
const open = (options) => stage.open(options);

before(async () => {
  await stage.autoscaler();
  await stage.agent(false);
  await stage.apply('worker', 'recommend', '{ min: 1, max: 3 }');
  await stage.browse();
});

after(() => stage.close());

test('each page works in both themes and three widths', async () => {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [360, 768, 1440]) {
      const { page, faults, close } = await open({ colorScheme, viewport: { width, height: 900 } });
      for (const [name, path] of Object.entries(PAGES)) {
        await page.goto(`http://${stage.at.api}${path}`);
        await page.getByText(SHOWN[name] ?? 'worker').first().waitFor();
        await page.getByText(/^live/).waitFor();
        await healthy(page, `${name}-${width}-${colorScheme}`);
      }
      assert.deepEqual(faults, []);
      await close();
    }
  }
});

test('links beside the pages lead somewhere', async () => {
  const { page, close } = await open();
  await page.goto(`http://${stage.at.api}/`);
  const links = await page.locator('footer a').evaluateAll((all) => all.map((one) => one.href));
  assert.equal(links.length, 3);
  for (const link of links) assert.equal((await fetch(link)).status, 200, link);
  await close();
});

test('nothing is asked of anybody else', async () => {
  const { page, close } = await open();
  const elsewhere = [];
  page.on('request', (request) => new URL(request.url()).host !== stage.at.api && elsewhere.push(request.url()));
  for (const path of Object.values(PAGES)) {
    await page.goto(`http://${stage.at.api}${path}`);
    await page.getByText(/^live/).waitFor();
  }
  assert.deepEqual(elsewhere, []);
  await close();
});

test('the keyboard leads everywhere', async () => {
  const { page, faults, close } = await open();
  await page.goto(`http://${stage.at.api}/`);
  await page.getByText('Last decisions').waitFor();
  const seen = new Set();
  for (let i = 0; i < 40; i += 1) {
    await page.keyboard.press('Tab');
    const focus = await page.evaluate(() => {
      const one = document.activeElement;
      return { text: one?.textContent?.trim() ?? '', outline: one ? getComputedStyle(one).outlineStyle : 'none', body: one === document.body };
    });
    if (focus.body) break;
    assert.notEqual(focus.outline, 'none', `focus on ${focus.text} cannot be seen`);
    seen.add(focus.text);
  }
  for (const text of ['Workloads', 'Nodes', 'Changes', 'What-if', 'System', 'Pause view', 'Table', 'CSV']) assert.ok(seen.has(text), `${text}: ${[...seen]}`);
  await page.getByRole('link', { name: 'Nodes', exact: true }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Nodes', level: 1 }).waitFor();
  assert.equal(new URL(page.url()).pathname, '/nodes');
  await page.goBack();
  await page.getByText('Last decisions').waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('idle causes and use add up to 100 %', async () => {
  const { page, close } = await open();
  await serve(page, 50);
  await page.goto(`http://${stage.at.api}/`);
  for (const name of ['CPU', 'Memory']) {
    const rows = page.getByRole('region', { name, exact: true }).locator('tbody tr:not(.sum) td:nth-child(2)');
    await rows.first().waitFor();
    const shares = (await rows.allTextContents()).map((text) => Number.parseFloat(text));
    assert.ok(Math.abs(shares.reduce((a, b) => a + b, 0) - 100) < 1e-6, shares.join(' '));
  }
  await close();
});

test('the doctor tells on System what the interface does, the bad before the good', async () => {
  const { page, faults, close } = await open();
  await page.goto(`http://${stage.at.api}/system`);
  const panel = page.getByRole('region', { name: 'Doctor', exact: true });
  await panel.getByText(/checks? passe?s?$/).click();
  const { findings } = await (await fetch(`http://${stage.at.api}/api/v1/doctor`)).json();
  const of = (verdict) => findings.filter((one) => one.verdict === verdict);
  assert.ok(of('PASS').length > 5, JSON.stringify(findings));
  assert.deepEqual(await panel.locator('dt').allTextContents(), of('PASS').map((one) => one.check));
  const ill = [...of('FAIL'), ...of('WARN')];
  assert.deepEqual(await panel.locator('li strong').allTextContents(), ill.map((one) => one.check));
  for (const one of ill) await panel.getByText(one.fix, { exact: true }).first().waitFor();
  await healthy(page, 'system-doctor');
  assert.deepEqual(faults, []);
  await close();
});

test('money is shown where its owner said what capacity costs, and nowhere else', async () => {
  const url = `http://${stage.at.api}/api/v1/prices`;
  const { page, faults, close } = await open();
  const region = (name) => page.getByRole('region', { name, exact: true });
  const shown = async (path) => {
    await page.goto(`http://${stage.at.api}${path}`);
    await page.getByText(/^live/).waitFor();
  };
  await shown('/system');
  await region('Prices').getByText('Not set, so nothing is shown as money').waitFor();
  await shown('/');
  await region('CPU').locator('tbody tr.sum').waitFor({ timeout: 90_000 });
  assert.doesNotMatch(await page.locator('main').textContent(), /an hour|EUR|Idle cost/);
  const table = { apiVersion: 'trimtab/v1', kind: 'PriceTable', metadata: { name: 'default' }, spec: { currency: 'EUR', perCoreHour: 3.5, perGibHour: 0.25 } };
  const put = await fetch(url, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(table) });
  assert.equal(put.status, 201, await put.text());
  await shown('/');
  for (const [name, price] of [['CPU', 3.5], ['Memory', 0.25]]) {
    await region(name).getByText(/EUR an hour/).waitFor();
    const all = await region(name).locator('tbody tr.sum td').allTextContents();
    const [amount, cost] = [Number.parseFloat(all[2]), Number.parseFloat(all[3].replaceAll(',', ''))];
    const unit = all[2].includes('TiB') ? 1024 : all[2].includes('MiB') ? 1 / 1024 : 1;
    assert.ok(Math.abs(cost / (amount * unit * price) - 1) < 0.02, `${name}: ${all}`);
  }
  await page.getByText('Idle cost').waitFor();
  await healthy(page, 'fleet-money');
  await shown('/system');
  await region('Prices').getByText('3.5 EUR').waitFor();
  await healthy(page, 'system-prices');
  assert.equal((await fetch(url, { method: 'DELETE' })).status, 204);
  await shown('/system');
  await region('Prices').getByText('Not set').waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('names that mean harm are text, and a large fleet is shown', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const { page, close } = await open({ colorScheme, viewport: { width: 768, height: 900 } });
    await serve(page, 2000);
    const hostile = { ...PAGES, system: '/system?find=%3Cimg', filtered: `/changes?workload=${encodeURIComponent(HOSTILE)}&kind=hold&all=1`, edit: `/workloads/${encodeURIComponent(HOSTILE)}?edit=1`, cluster: '/workloads/ring', whatif: '/what-if', played: `/what-if?workload=${encodeURIComponent(HOSTILE)}&cpu=70&headroom=20&risk=1&lose=2&cpus=8&memory=32&price=0.4`, node: '/nodes/node-00003', harm: `/workloads/${encodeURIComponent(HOSTILE)}`, long: `/workloads/${LONG}` };
    for (const [name, path] of Object.entries(hostile)) {
      await page.goto(`http://${stage.at.api}${path}`);
      await page.getByText('<img').filter({ visible: true }).first().waitFor();
      const more = page.locator('summary').first();
      if ((await more.count()) > 0) await more.click();
      assert.equal(await page.locator('img').count(), 0, name);
      assert.equal(await page.evaluate(() => globalThis.harmed), undefined, name);
      await healthy(page, `hostile-${name}-${colorScheme}`);
    }
    await close();
  }
});

test('after a restart of the autoscaler the page goes on by itself', async () => {
  const { page, close } = await open();
  await page.goto(`http://${stage.at.api}/`);
  await page.getByText(/^live/).waitFor();
  await stage.end(stage.at.child);
  await page.getByRole('alert').waitFor({ timeout: PATIENCE });
  assert.match(await page.getByRole('alert').textContent(), /does not answer/);
  await page.getByRole('region', { name: 'State' }).getByText('Unknown', { exact: true }).waitFor();
  await stage.autoscaler(stage.at.api, stage.at.agents);
  await page.getByRole('alert').waitFor({ state: 'detached', timeout: PATIENCE });
  await page.getByText(/^live/).waitFor({ timeout: PATIENCE });
  await close();
});

test('events without the lists that they belong to are no sign of life', async () => {
  const { page, close } = await open();
  // As if it ended between its first answers: the stream tells of a workload that is in no list yet.
  await page.route('**/api/v1/workloads', (route) => route.abort());
  await page.goto(`http://${stage.at.api}/`);
  await page.getByText(/^live/).waitFor();
  await stage.apply('worker', 'observe', '{ min: 1, max: 3 }');
  await stage.apply('worker', 'recommend', '{ min: 1, max: 3 }');
  await sleep(3000);
  await stage.end(stage.at.child);
  await page.getByRole('alert').waitFor({ timeout: PATIENCE });
  await stage.autoscaler(stage.at.api, stage.at.agents);
  await page.getByRole('alert').waitFor({ state: 'detached', timeout: PATIENCE });
  await close();
});

test('a paused view asks nothing and goes on when it is resumed', async () => {
  const { page, close } = await open();
  await page.goto(`http://${stage.at.api}/`);
  await page.getByText(/^live/).waitFor();
  await page.getByRole('button', { name: 'Pause view' }).click();
  await sleep(1500);
  let asked = 0;
  page.on('request', () => (asked += 1));
  await sleep(3000);
  assert.equal(asked, 0);
  await page.getByRole('button', { name: 'Resume view' }).click();
  await page.getByText(/^live/).waitFor();
  assert.ok(asked > 0);
  await close();
});
