// The real autoscaler, a real agent, and a real browser under the policy that the server sends.
//
// `cargo xtask web --browser` builds the programs and says where they and the browser are. SHOTS=DIR keeps pictures.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const programs = process.env.TRIMTAB_PROGRAMS ?? '../../target/debug';
const shots = process.env.SHOTS;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
export const PATIENCE = 30_000;

/** Waits for an answer that is true; a question that fails is asked again. */
export async function until(what, question) {
  const end = Date.now() + PATIENCE;
  let last = '';
  for (;;) {
    const answer = await Promise.resolve()
      .then(question)
      .catch((error) => void (last = String(error)));
    if (answer) return answer;
    assert.ok(Date.now() < end, `${what}: not within ${PATIENCE / 1000} s; ${last}`);
    await sleep(100);
  }
}

/** Removes a tree of cgroups, deepest first; true when it is gone. */
function removed(top) {
  if (!existsSync(top)) return true;
  for (const below of readdirSync(top, { withFileTypes: true })) if (below.isDirectory()) removed(join(top, below.name));
  try {
    rmdirSync(top);
    return true;
  } catch {
    return false;
  }
}

export class Stage {
  state = mkdtempSync(join(tmpdir(), 'trimtab-web-'));
  slice = `trimtab-web-${process.pid}.slice`;
  started = [];

  run(program, args) {
    const child = spawn(join(programs, program), args, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.log = '';
    child.stderr.on('data', (text) => (child.log = (child.log + text).slice(-4000)));
    this.started.push(child);
    return child;
  }

  async end(child) {
    child.kill('SIGTERM');
    if (child.exitCode === null && child.signalCode === null) await new Promise((done) => child.once('exit', done));
  }

  async autoscaler(api = '127.0.0.1:0', agents = '127.0.0.1:0') {
    const file = join(this.state, 'autoscaler/endpoints.json');
    rmSync(file, { force: true });
    const child = this.run('trimtab-autoscaler', ['--state', join(this.state, 'autoscaler'), '--listen', agents, '--api', api]);
    const found = await until('the autoscaler', () => {
      assert.equal(child.exitCode, null, child.log);
      return JSON.parse(readFileSync(file, 'utf8'));
    });
    this.at = { child, api: found.api[0], agents: found.agents[0] };
  }

  /** An agent that may start `worker`, which does nothing unless another command is given, when it may act. */
  async agent(act, command = '["/bin/sleep", "1000000"]') {
    const directory = (name) => {
      mkdirSync(join(this.state, name));
      return join(this.state, name);
    };
    const launchers = directory('launch.d');
    writeFileSync(join(launchers, 'worker.toml'), `command = ${command}\nallow_root = true\n`);
    const config = join(this.state, 'agent.toml');
    writeFileSync(config, `node = "n1"
autoscaler = "http://${this.at.agents}"
state = "${directory('agent')}"
launchers = "${launchers}"
rules = "${directory('tasks.d')}"
http = "127.0.0.1:0"
slice = "${this.slice}"
executor = "direct"
act = ${act}
`);
    const agent = this.run('trimtab-agent', ['--config', config]);
    await until('the node', async () => {
      assert.equal(agent.exitCode, null, agent.log);
      return (await this.get('/nodes')).items[0]?.cpuCores != null;
    });
  }

  async browse() {
    this.browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
  }

  async get(path) {
    return (await fetch(`http://${this.at.api}/api/v1${path}`)).json();
  }

  /** Applies a service as a program of this host would, beside the pages. */
  async apply(name, mode, replicas, more = '') {
    const specification = `apiVersion: trimtab/v1
kind: Workload
metadata: { name: ${name} }
spec:
  type: service
  mode: ${mode}
  replicas: ${replicas}
  target: { cpu: 65% }
  service: { launcher: worker }
${more}`;
    const answer = await fetch(`http://${this.at.api}/api/v1/workloads/${name}`, { method: 'PUT', headers: { 'content-type': 'application/yaml' }, body: specification });
    assert.ok(answer.ok, await answer.text());
  }

  /** The address with the session that the autoscaler made. */
  writing(path) {
    return `http://${this.at.api}${path}#session=${readFileSync(join(this.state, 'autoscaler/session'), 'utf8').trim()}`;
  }

  /** Processes that the agent started. */
  processes() {
    const top = join(unified(), this.slice);
    if (!existsSync(top)) return [];
    return readdirSync(top, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.name === 'cgroup.procs')
      .flatMap((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8').split('\n'))
      .filter((line) => line !== '');
  }

  /** A page whose errors fail the test. */
  async open(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
    const page = await context.newPage();
    const faults = [];
    page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
    page.on('pageerror', (error) => faults.push(String(error)));
    return { page, faults, close: () => context.close() };
  }

  async close() {
    await this.browser?.close();
    // The agent first: it must not start again what is ended here.
    for (const child of this.started.reverse()) await this.end(child);
    const trees = [unified(), ...['cpu', 'memory', 'pids'].map((old) => join('/sys/fs/cgroup', old))].map((mount) => join(mount, this.slice));
    if (existsSync(join(trees[0], 'cgroup.kill'))) writeFileSync(join(trees[0], 'cgroup.kill'), '1');
    for (const tree of trees) await until(`the end of ${tree}`, () => removed(tree));
    rmSync(this.state, { recursive: true, force: true });
  }
}

function unified() {
  const line = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').find((one) => one.includes(' - cgroup2 '));
  assert.ok(line, 'no cgroup2 mount on this host');
  return line.split(' ')[4];
}

/** As wide as the window at most, nothing serious of accessibility; its picture. */
export async function healthy(page, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${what}: wider than the window by ${wide} px`);
  // A colour on its way to another one is neither.
  await page.evaluate(() => Promise.allSettled(document.getAnimations().filter((one) => one instanceof CSSTransition).map((one) => one.finished)));
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const bad = found.violations.filter((one) => ['serious', 'critical'].includes(one.impact));
  assert.deepEqual(bad.map((one) => `${one.id}: ${one.nodes.map((n) => n.target).join(' ')} ${one.nodes[0]?.failureSummary}`), [], what);
  if (shots) {
    mkdirSync(shots, { recursive: true });
    await page.screenshot({ path: join(shots, `${what}.png`), fullPage: true });
  }
}
