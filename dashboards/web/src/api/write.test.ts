import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { session } from './session.svelte';
import { Writing } from './write.svelte';

let sent: { path: string; headers: Record<string, string>; body: string | null }[] = [];
let answers: (() => Promise<Response>)[] = [];
const answer = (status: number, body: unknown) => () => Promise.resolve(new Response(JSON.stringify(body), { status }));
const lost = () => Promise.reject(new TypeError('gone'));

beforeEach(() => {
  [sent, answers] = [[], []];
  vi.stubGlobal('document', { visibilityState: 'hidden' });
  vi.stubGlobal('fetch', (path: string, options: RequestInit) => {
    sent.push({ path, headers: options.headers as Record<string, string>, body: options.body as string | null });
    return (answers.shift() ?? answer(200, {}))();
  });
});
afterEach(() => vi.unstubAllGlobals());

const pause = { method: 'POST', path: '/api/v1/pause', body: { reason: 'x' } } as const;
const keys = () => sent.map((one) => one.headers['idempotency-key']);

it('does not fire twice on a double click', async () => {
  const writing = new Writing();
  const [first, second] = await Promise.all([writing.send(pause), writing.send(pause)]);
  expect([first, second, sent.length]).toEqual([{}, undefined, 1]);
  expect(writing.fault).toBeUndefined();
});

it('says the same wish again until its answer is known', async () => {
  const writing = new Writing();
  answers = [lost, answer(503, {}), answer(200, { state: 'paused' })];
  expect(await writing.send(pause)).toBeUndefined();
  expect(writing.fault?.status).toBe(0);
  await writing.send(pause);
  expect(await writing.send(pause)).toEqual({ state: 'paused' });
  expect(writing.fault).toBeUndefined();
  await writing.send(pause);
  const [first, second, third, fourth] = keys();
  expect([second, third]).toEqual([first, first]);
  expect(fourth).not.toBe(first);
});

it('takes another key for another wish', async () => {
  const writing = new Writing();
  answers = [lost];
  await writing.send(pause);
  await writing.send({ ...pause, body: { reason: 'y' } });
  expect(new Set(keys()).size).toBe(2);
});

it('sends the revision that must be in force, and reads faults of fields', async () => {
  const writing = new Writing();
  answers = [answer(422, { type: 'urn:trimtab:problem:invalid-spec', detail: 'no', faults: [{ field: 'spec.mode', message: 'bad' }] })];
  await writing.send({ method: 'PUT', path: '/x', body: { a: 1 }, revision: 7 });
  expect(sent[0]?.headers).toMatchObject({ 'if-match': '"7"', 'content-type': 'application/json' });
  expect(sent[0]?.headers['idempotency-key']).toBeUndefined();
  expect([writing.fault?.status, writing.fault?.kind, writing.fault?.message, writing.fault?.faults[0]?.field]).toEqual([422, 'invalid-spec', 'no', 'spec.mode']);
});

it('takes an answer without a body, and is read only after 401', async () => {
  const writing = new Writing();
  answers = [() => Promise.resolve(new Response(null, { status: 204 })), answer(401, { type: 'urn:trimtab:problem:session-required', detail: 'x' })];
  expect(await writing.send({ method: 'DELETE', path: '/x' })).toEqual({});
  session.writes = true;
  await writing.send(pause);
  expect([session.writes, writing.fault?.kind]).toEqual([false, 'session-required']);
});
