// The real autoscaler, a real agent, and a real browser under the policy that the server sends.
//
// `cargo xtask web --browser` builds the programs and says where they and the browser are. SHOTS=DIR keeps pictures.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { HOSTILE, LONG, serve } from './sample.mjs';

const programs = process.env.TRIMTAB_PROGRAMS ?? '../../target/debug';
const shots = process.env.SHOTS;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const state = mkdtempSync(join(tmpdir(), 'trimtab-web-'));
const PATIENCE = 30_000;
const PAGES = { fleet: '/', workloads: '/workloads', workload: '/workloads/worker', nodes: '/nodes', node: '/nodes/n1' };

const started = [];
let browser;
let at;

async function until(what, question) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await Promise.resolve().then(question).catch(() => undefined);
    if (answer) return answer;
    assert.ok(Date.now() < end, `${what}: not within ${PATIENCE / 1000} s`);
    await sleep(100);
  }
}

function run(program, args) {
  const child = spawn(join(programs, program), args, { stdio: ['ignore', 'ignore', 'pipe'] });
  child.log = '';
  child.stderr.on('data', (text) => (child.log = (child.log + text).slice(-4000)));
  started.push(child);
  return child;
}

async function ended(child) {
  child.kill('SIGTERM');
  if (child.exitCode === null && child.signalCode === null) await new Promise((done) => child.once('exit', done));
}

async function autoscaler(api = '127.0.0.1:0', agents = '127.0.0.1:0') {
  const file = join(state, 'autoscaler/endpoints.json');
  rmSync(file, { force: true });
  const child = run('trimtab-autoscaler', ['--state', join(state, 'autoscaler'), '--listen', agents, '--api', api]);
  const found = await until('the autoscaler', () => {
    assert.equal(child.exitCode, null, child.log);
    return JSON.parse(readFileSync(file, 'utf8'));
  });
  return { child, api: found.api[0], agents: found.agents[0] };
}

/** A page whose errors fail the test. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  page.on('pageerror', (error) => faults.push(String(error)));
  return { page, faults, close: () => context.close() };
}

async function healthy(page, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${what}: wider than the window by ${wide} px`);
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const bad = found.violations.filter((one) => ['serious', 'critical'].includes(one.impact));
  assert.deepEqual(bad.map((one) => `${one.id}: ${one.nodes.map((n) => n.target).join(' ')} ${one.nodes[0]?.failureSummary}`), [], what);
  if (shots) {
    mkdirSync(shots, { recursive: true });
    await page.screenshot({ path: join(shots, `${what}.png`), fullPage: true });
  }
}

before(async () => {
  at = await autoscaler();
  const directory = (name) => {
    mkdirSync(join(state, name));
    return join(state, name);
  };
  const config = join(state, 'agent.toml');
  writeFileSync(config, `node = "n1"
autoscaler = "http://${at.agents}"
state = "${directory('agent')}"
launchers = "${directory('launch.d')}"
rules = "${directory('tasks.d')}"
http = "127.0.0.1:0"
act = false
`);
  const agent = run('trimtab-agent', ['--config', config]);
  const specification = `apiVersion: trimtab/v1
kind: Workload
metadata: { name: worker }
spec:
  type: service
  mode: recommend
  replicas: { min: 1, max: 3 }
  target: { cpu: 65% }
  service: { launcher: worker }
`;
  const put = await fetch(`http://${at.api}/api/v1/workloads/worker`, { method: 'PUT', headers: { 'content-type': 'application/yaml' }, body: specification });
  assert.equal(put.status, 201, await put.text());
  await until('the node', async () => {
    assert.equal(agent.exitCode, null, agent.log);
    return (await (await fetch(`http://${at.api}/api/v1/nodes`)).json()).items[0]?.cpuCores != null;
  });
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
});

after(async () => {
  await browser?.close();
  for (const child of started) await ended(child);
  rmSync(state, { recursive: true, force: true });
});

test('each page works in both themes and three widths', async () => {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [360, 768, 1440]) {
      const { page, faults, close } = await open({ colorScheme, viewport: { width, height: 900 } });
      for (const [name, path] of Object.entries(PAGES)) {
        await page.goto(`http://${at.api}${path}`);
        await page.getByText(name === 'fleet' ? 'Last decisions' : name === 'nodes' ? '1 node' : name === 'node' ? 'Last tasks that ended' : 'worker').first().waitFor();
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
  await page.goto(`http://${at.api}/`);
  const links = await page.locator('footer a').evaluateAll((all) => all.map((one) => one.href));
  assert.equal(links.length, 3);
  for (const link of links) assert.equal((await fetch(link)).status, 200, link);
  await close();
});

test('nothing is asked of anybody else', async () => {
  const { page, close } = await open();
  const elsewhere = [];
  page.on('request', (request) => new URL(request.url()).host !== at.api && elsewhere.push(request.url()));
  for (const path of Object.values(PAGES)) {
    await page.goto(`http://${at.api}${path}`);
    await page.getByText(/^live/).waitFor();
  }
  assert.deepEqual(elsewhere, []);
  await close();
});

test('the keyboard leads everywhere', async () => {
  const { page, faults, close } = await open();
  await page.goto(`http://${at.api}/`);
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
  for (const text of ['Workloads', 'Nodes', 'Pause view', 'Table', 'CSV']) assert.ok(seen.has(text), `${text}: ${[...seen]}`);
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
  await page.goto(`http://${at.api}/`);
  for (const name of ['CPU', 'Memory']) {
    const rows = page.getByRole('region', { name, exact: true }).locator('tbody tr:not(.sum) td:nth-child(2)');
    await rows.first().waitFor();
    const shares = (await rows.allTextContents()).map((text) => Number.parseFloat(text));
    assert.ok(Math.abs(shares.reduce((a, b) => a + b, 0) - 100) < 1e-6, shares.join(' '));
  }
  await close();
});

test('names that mean harm are text, and a large fleet is shown', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const { page, close } = await open({ colorScheme, viewport: { width: 768, height: 900 } });
    await serve(page, 2000);
    const hostile = { ...PAGES, cluster: '/workloads/ring', node: '/nodes/node-00003', harm: `/workloads/${encodeURIComponent(HOSTILE)}`, long: `/workloads/${LONG}` };
    for (const [name, path] of Object.entries(hostile)) {
      await page.goto(`http://${at.api}${path}`);
      await page.getByText('<img').first().waitFor();
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
  await page.goto(`http://${at.api}/`);
  await page.getByText(/^live/).waitFor();
  await ended(at.child);
  await page.getByRole('alert').waitFor({ timeout: PATIENCE });
  assert.match(await page.getByRole('alert').textContent(), /does not answer/);
  await page.getByRole('region', { name: 'State' }).getByText('Unknown', { exact: true }).waitFor();
  at = await autoscaler(at.api, at.agents);
  await page.getByRole('alert').waitFor({ state: 'detached', timeout: PATIENCE });
  await page.getByText(/^live/).waitFor({ timeout: PATIENCE });
  await close();
});

test('a paused view asks nothing and goes on when it is resumed', async () => {
  const { page, close } = await open();
  await page.goto(`http://${at.api}/`);
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
