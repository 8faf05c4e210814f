// What the pages change: real replicas on a real agent, and what they do where nothing may be changed.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { HOSTILE, LONG, serve } from './sample.mjs';
import { healthy, Stage, until } from './stage.mjs';

const stage = new Stage();
const EDIT = '/workloads/worker?edit=1';

before(async () => {
  await stage.autoscaler();
  await stage.agent(true);
  await stage.apply('worker', 'recommend', '{ min: 1, max: 3 }');
  await stage.browse();
});

after(() => stage.close());

/** A page that may write; what it sends that is no question is kept. */
async function writer(path, options) {
  const opened = await stage.open(options);
  const sent = [];
  opened.page.on('request', (request) => request.method() !== 'GET' && sent.push(request));
  await opened.page.goto(stage.writing(path));
  return { ...opened, sent };
}

const status = () => stage.get('/status');
const worker = () => stage.get('/workloads/worker');
const button = (page, name) => page.getByRole('button', { name, exact: true });
const said = (page, text) => page.getByRole('status').filter({ hasText: text }).first().waitFor();
const form = (page) => page.getByRole('form', { name: 'Targets of this workload' });

test('without a session everything can be read, and each control says how to write', async () => {
  const { page, faults, close } = await stage.open();
  const sent = [];
  page.on('request', (request) => request.method() !== 'GET' && sent.push(request.url()));
  const words = page.getByText('Read only: open the address that trimtab dashboard prints.');
  await page.goto(`http://${stage.at.api}/changes`);
  await page.getByRole('banner').getByText('read only').waitFor();
  await button(page, 'Pause…').click();
  await words.waitFor();
  await healthy(page, 'read-only-changes');
  await page.goto(`http://${stage.at.api}${EDIT}`);
  await words.waitFor();
  assert.ok(await form(page).getByLabel('Replicas at least').isDisabled());
  assert.ok(await button(page, 'Preview').isDisabled());
  await healthy(page, 'read-only-editor');
  await page.goto(`http://${stage.at.api}/nodes/n1`);
  await page.getByRole('button', { name: /^Drain/ }).click();
  await words.waitFor();
  assert.deepEqual([sent, faults], [[], []]);
  // Nor is it the page alone that keeps to it.
  const refused = await page.evaluate(async () => (await (await fetch('/api/v1/pause', { method: 'POST', body: '{}' })).json()).type);
  assert.match(refused, /session-required$/);
  assert.equal((await status()).state, 'acting');
  await close();
});

test('the session leaves the address at once and is kept for this tab', async () => {
  const { page, close } = await writer('/changes?kind=hold');
  await page.getByRole('heading', { name: 'Changes', level: 1 }).waitFor();
  assert.equal(page.url(), `http://${stage.at.api}/changes?kind=hold`);
  await page.reload();
  await page.goto(`http://${stage.at.api}/system`);
  await page.getByText('may change things').waitFor();
  assert.equal(await page.getByRole('banner').getByText('read only').count(), 0);
  // A wrong one is not kept.
  await page.goto(`http://${stage.at.api}/system#session=${'0'.repeat(64)}`);
  await page.getByRole('banner').getByText('read only').waitFor();
  assert.equal(new URL(page.url()).hash, '');
  await page.reload();
  await page.getByRole('banner').getByText('read only').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await close();
});

test('a target that is set in the page changes real replicas', async () => {
  const { page, faults, sent, close } = await writer(EDIT);
  assert.equal(stage.processes().length, 0);
  await form(page).getByLabel('Mode').selectOption('auto');
  await form(page).getByLabel('Replicas at least').fill('2');
  await form(page).getByLabel('Use of what is given').fill('50%');
  assert.ok(await button(page, 'Apply').isDisabled(), 'nothing is applied that was not previewed');
  await button(page, 'Preview').click();
  const preview = page.getByRole('region', { name: 'Preview' });
  await preview.getByText('spec.replicas.min').waitFor();
  assert.match(await preview.textContent(), /afterwards between 2 and 3/);
  await healthy(page, 'editor-preview');
  assert.equal((await worker()).revision, 1, 'a preview changes nothing');
  await form(page).getByLabel('Use of what is given').fill('55%');
  assert.ok(await button(page, 'Apply').isDisabled(), 'another document needs another preview');
  await button(page, 'Preview').click();
  await preview.getByText('55%').waitFor();
  await button(page, 'Apply').dblclick();
  await said(page, 'of worker is in force');
  const applied = sent.filter((request) => request.method() === 'PUT' && !request.url().includes('dryRun'));
  assert.equal(applied.length, 1, 'a double click applies once');
  const { spec } = (await worker()).document;
  assert.deepEqual([spec.mode, spec.replicas, spec.target], ['auto', { min: 2, max: 3 }, { cpu: '55%' }]);
  await until('two processes', () => stage.processes().length === 2);
  await page.getByRole('region', { name: 'Now' }).getByText('2 / 2').first().waitFor();
  // What was done is marked where it is drawn, and says why.
  await page.getByRole('region', { name: 'Since this page was opened' }).getByRole('button', { name: /→ 2:/ }).click();
  await page.getByRole('list', { name: 'The decision at the mark' }).getByRole('heading', { name: 'Why' }).waitFor();
  await healthy(page, 'workload-applied');
  assert.deepEqual(faults, []);
  await close();
});

test('an earlier specification comes back, after a preview, and its bounds end a real replica', async () => {
  await stage.apply('worker', 'auto', '{ min: 1, max: 1 }');
  await until('one process', () => stage.processes().length === 1);
  const goal = (await worker()).revision;
  await stage.apply('worker', 'auto', '{ min: 2, max: 2 }');
  await until('two processes', () => stage.processes().length === 2);
  const { page, faults, sent, close } = await writer('/workloads/worker');
  const revisions = page.getByRole('region', { name: 'Revisions' });
  await revisions.getByRole('button', { name: `Roll back… to revision ${goal}`, exact: true }).click();
  await revisions.getByRole('button', { name: 'Preview' }).click();
  await revisions.getByText('1 must end').waitFor();
  await healthy(page, 'rollback-preview');
  assert.equal((await worker()).document.spec.replicas.max, 2, 'a preview changes nothing');
  await revisions.getByRole('button', { name: `Roll back to revision ${goal}` }).click();
  await said(page, `as in revision ${goal} again`);
  assert.equal((await worker()).document.spec.replicas.max, 1);
  assert.ok(sent.every((request) => /^"\d+"$/.test(request.headers()['if-match'] ?? '')));
  await until('one process', () => stage.processes().length === 1);
  await revisions.getByText('in force').waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('a second writer is seen before it is overwritten', async () => {
  await stage.apply('worker', 'auto', '{ min: 1, max: 2 }');
  const { page, close } = await writer(EDIT);
  await form(page).getByLabel('Replicas at most').fill('3');
  // It is not told by itself of what others do.
  await button(page, 'Pause view').click();
  await button(page, 'Preview').click();
  await page.getByRole('region', { name: 'Preview' }).getByText('spec.replicas.max').waitFor();
  await stage.apply('worker', 'observe', '{ min: 1, max: 2 }');
  const theirs = (await worker()).revision;
  const answered = page.waitForResponse((response) => response.request().method() === 'PUT');
  await button(page, 'Apply').click();
  assert.equal((await answered).status(), 412);
  await page.getByText('Somebody else changed it meanwhile: look at the difference.').waitFor();
  await healthy(page, 'editor-conflict');
  assert.equal((await worker()).revision, theirs);
  await button(page, 'Show what changed, keep what I typed').click();
  await form(page).getByText('spec.mode').waitFor();
  assert.equal(await form(page).getByLabel('Replicas at most').inputValue(), '3', 'what was typed stays');
  assert.equal(await form(page).getByLabel('Mode').inputValue(), 'observe', 'what they changed is taken over');
  await button(page, 'Preview').click();
  await page.getByRole('region', { name: 'Preview' }).getByText('spec.replicas.max').waitFor();
  await button(page, 'Apply').click();
  await said(page, 'is in force');
  const { spec } = (await worker()).document;
  assert.deepEqual([spec.mode, spec.replicas.max], ['observe', 3]);
  await close();
});

test('a fault is said at its field', async () => {
  const { page, close } = await writer(EDIT);
  const cpu = form(page).getByLabel('Use of what is given');
  await cpu.fill('650%');
  await form(page).getByLabel('Replicas at least').fill('some');
  await button(page, 'Preview').click();
  await form(page).getByText('must lie between 1% and 99%').or(form(page).getByText('whole number from 0')).first().waitFor();
  await page.locator('[aria-invalid=true]').first().waitFor();
  assert.match(await page.locator('label', { has: page.getByText('Replicas at least') }).textContent(), /must be a whole number/);
  assert.ok(await button(page, 'Apply').isDisabled());
  await healthy(page, 'editor-faults');
  await close();
});

test('the keyboard alone sets a target, pauses and resumes', async () => {
  await stage.apply('worker', 'observe', '{ min: 1, max: 2 }');
  const { page, faults, close } = await writer('/workloads/worker');
  const tabs = async (name) => {
    for (let i = 0; i < 60; i += 1) {
      await page.keyboard.press('Tab');
      if (await page.evaluate((text) => (document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.closest('label')?.textContent ?? document.activeElement?.textContent ?? '').trim().startsWith(text), name)) return;
    }
    assert.fail(`${name} is not reached by Tab`);
  };
  await button(page, 'Edit targets').waitFor();
  await tabs('Edit targets');
  await page.keyboard.press('Enter');
  await form(page).getByLabel('Replicas at most').waitFor();
  await tabs('Replicas at most');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('7');
  await page.keyboard.press('Enter');
  await page.getByRole('region', { name: 'Preview' }).getByText('spec.replicas.max').waitFor();
  await tabs('Apply');
  await page.keyboard.press('Enter');
  await said(page, 'is in force');
  assert.equal((await worker()).document.spec.replicas.max, 7);

  await page.goto(`http://${stage.at.api}/changes`);
  await button(page, 'Pause…').waitFor();
  await tabs('Pause…');
  await page.keyboard.press('Enter');
  await page.getByText('until resumed').first().waitFor();
  assert.match(await page.evaluate(() => document.activeElement?.tagName ?? ''), /SELECT/, 'the focus is in the form');
  await tabs('For how long');
  await page.keyboard.type('2h');
  await tabs('Why');
  await page.keyboard.type('looking at <b>n1</b>');
  await page.keyboard.press('Enter');
  await said(page, 'Paused: the whole fleet, until');
  const [pause] = (await status()).pauses;
  assert.deepEqual([pause.workload ?? null, pause.reason], [null, 'looking at <b>n1</b>']);
  assert.ok(Math.abs(pause.untilMs - pause.sinceMs - 7_200_000) < 1000);
  await page.getByText('looking at <b>n1</b>').waitFor();
  await healthy(page, 'changes-paused');
  await tabs('Resume…');
  await page.keyboard.press('Enter');
  await tabs('Resume the whole fleet');
  await page.keyboard.press('Enter');
  await said(page, 'Resumed: the whole fleet.');
  assert.deepEqual((await status()).pauses, []);
  assert.deepEqual(faults, []);
  await close();
});

test('one workload is paused for a wrong time, then rightly, and resumed on its page', async () => {
  const { page, close } = await writer('/workloads/worker');
  await button(page, 'Pause this workload…').click();
  await page.getByLabel('For how long').fill('soon');
  await button(page, 'Pause worker').click();
  await page.getByRole('alert').filter({ hasText: 'Not done: for' }).waitFor();
  await page.getByLabel('For how long').fill('30m');
  await button(page, 'Pause worker').click();
  await said(page, 'Paused: worker, until');
  assert.equal((await status()).pauses[0].workload, 'worker');
  await page.getByRole('button', { name: 'Resume… worker' }).click();
  await button(page, 'Resume worker').click();
  await said(page, 'Resumed: worker.');
  assert.deepEqual((await status()).pauses, []);
  await close();
});

test('a node is drained after it is said what would stay, and used again', async () => {
  await stage.apply('worker', 'auto', '{ min: 1, max: 1 }');
  await until('one process', () => stage.processes().length === 1);
  const { page, close } = await writer('/nodes/n1');
  const keeps = page.getByRole('region', { name: 'Why it is still here' });
  await keeps.getByText('A drain is refused: nothing could leave now.').waitFor();
  await keeps.getByRole('row').filter({ hasText: 'worker' }).getByText('no: no').waitFor();
  await page.getByRole('button', { name: /^Drain/ }).click();
  await page.getByRole('textbox', { name: 'Why' }).fill('a new disk');
  await button(page, 'Drain it').click();
  await page.getByRole('alert').filter({ hasText: '1 of workload worker would stay' }).waitFor();
  await healthy(page, 'drain-refused');
  assert.equal((await stage.get('/nodes/n1')).drain ?? null, null);
  await button(page, 'Drain partly').click();
  await page.getByText('An operator wants it empty: a new disk.').waitFor();
  await healthy(page, 'drain-begun');
  assert.deepEqual((await stage.get('/nodes/n1')).drain, { why: 'a new disk', left: 1 });
  await page.goto(`http://${stage.at.api}/changes`);
  const way = page.getByRole('region', { name: 'On the way' });
  await way.getByText('1 may still run on it: a new disk').waitFor();
  await way.getByRole('button', { name: 'Use again… n1' }).click();
  await button(page, 'Use it again').click();
  await said(page, 'Replicas may start on n1 again.');
  await way.getByText('no drain of a node').waitFor();
  assert.equal((await stage.get('/nodes/n1')).drain ?? null, null);
  await close();
});

test('the history is filtered by its address', async () => {
  const { page, close } = await writer('/changes?workload=worker&kind=scale_out');
  const history = page.getByRole('region', { name: 'History' });
  await history.locator('tbody tr').first().waitFor();
  assert.deepEqual([...new Set(await history.locator('tbody td:nth-child(3) .tag').allTextContents())], ['scale out']);
  await history.getByLabel('Kind').selectOption('resize');
  await history.getByText('is “resize”').waitFor();
  assert.equal(new URL(page.url()).search, '?workload=worker&kind=resize');
  await page.reload();
  await history.getByText('is “resize”').waitFor();
  await close();
});

test('a recommended change is approved and one on its way is cancelled, with hostile names around', async () => {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [360, 768, 1440]) {
      const { page, close } = await stage.open({ colorScheme, viewport: { width, height: 900 } });
      await serve(page, 20);
      const sent = [];
      await page.route('**/api/v1/workloads/*/{approve,reject,cancel}', (route) => {
        sent.push(route.request());
        const late = sent.length === 1;
        return route.fulfill(late ? { status: 409, json: { type: 'urn:trimtab:problem:nothing-to-approve', detail: `something else now ${HOSTILE}`, status: 409 } } : { json: {} });
      });
      await page.route('**/api/v1/workloads/*?dryRun=true', (route) => {
        const after = route.request().postDataJSON();
        return route.fulfill({ json: { apiVersion: 'trimtab/v1', dryRun: true, created: false, unchanged: false, before: { ...after, [HOSTILE]: HOSTILE }, after: { ...after, spec: { ...after.spec, more: LONG } }, wantedNow: 5, bounds: [2, 3] } });
      });
      await page.goto(stage.writing('/changes'));
      const waiting = page.getByRole('region', { name: 'Waiting for approval' });
      await waiting.getByText('20 min').waitFor();
      await waiting.getByRole('button', { name: 'Approve… store' }).click();
      await button(page, 'Approve decision 7').click();
      await waiting.getByRole('alert').filter({ hasText: 'Not done: something else now <img' }).waitFor();
      await healthy(page, `approve-${width}-${colorScheme}`);
      await button(page, 'Approve decision 7').click();
      await said(page, 'Approved: decision 7 of store');
      await waiting.getByRole('button', { name: 'Snooze… store' }).click();
      await waiting.getByLabel('For').selectOption('a day');
      await waiting.getByLabel('Why').fill('not before the audit');
      await healthy(page, `snooze-${width}-${colorScheme}`);
      await button(page, 'Put decision 7 off').click();
      await said(page, 'Put off: decision 7 of store');
      await waiting.getByRole('button', { name: 'Reject… store' }).click();
      await waiting.getByLabel('Why').fill('not this week');
      await button(page, 'Reject decision 7').click();
      await said(page, 'Rejected: decision 7 of store');
      await page.getByRole('button', { name: 'Cancel… ring' }).click();
      await page.getByLabel('Why').fill('not now');
      await button(page, 'Cancel this change').click();
      await said(page, 'Cancelled: 10.0.0.14 of ring');
      assert.deepEqual(sent.map((request) => request.postDataJSON()), [{ decision: '7' }, { decision: '7' }, { decision: '7', reason: 'not before the audit', for: '24h' }, { decision: '7', reason: 'not this week' }, { reason: 'not now' }]);
      assert.ok(sent.every((request) => /^Bearer \w{64}$/.test(request.headers()['authorization'])));
      assert.equal(new Set(sent.map((request) => request.headers()['idempotency-key'])).size, 5, 'a refusal is an answer: what follows is another wish');

      await page.goto(`http://${stage.at.api}/workloads/${encodeURIComponent(HOSTILE)}?edit=1`);
      await form(page).getByLabel('Replicas at most').fill('3');
      await button(page, 'Preview').click();
      await page.getByRole('region', { name: 'Preview' }).getByText('2 must end').waitFor();
      await page.getByRole('region', { name: 'Revisions' }).getByText('fields changed').click();
      await healthy(page, `editor-${width}-${colorScheme}`);
      assert.equal(await page.locator('img').count(), 0);
      assert.equal(await page.evaluate(() => globalThis.harmed), undefined);
      await close();
    }
  }
});

test('an answer that is lost is asked for again as the same wish', async () => {
  const { page, close } = await writer('/changes');
  const keys = [];
  let lose = true;
  await page.route('**/api/v1/pause', async (route) => {
    keys.push(route.request().headers()['idempotency-key']);
    if (!lose) return route.continue();
    lose = false;
    // It arrives, and what it says does not.
    await route.fetch();
    return route.abort();
  });
  await button(page, 'Pause…').click();
  await button(page, 'Pause the whole fleet').click();
  await page.getByRole('alert').filter({ hasText: 'Not known whether it was done' }).waitFor();
  const first = (await status()).pauses[0].sinceMs;
  await button(page, 'Pause the whole fleet').click();
  await said(page, 'Paused: the whole fleet');
  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
  assert.equal((await status()).pauses[0].sinceMs, first, 'it was done once');
  await page.getByRole('button', { name: 'Resume… the whole fleet' }).click();
  await button(page, 'Resume the whole fleet').click();
  await said(page, 'Resumed');
  await close();
});
