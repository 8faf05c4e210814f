// Writing: one request at a time, never twice for one wish, and what came of it in words.

import { Fault, live, refused, sent } from './live.svelte';
import { session } from './session.svelte';

export interface Order {
  method: 'PUT' | 'POST' | 'DELETE';
  path: string;
  /** Sent as JSON. */
  body?: unknown;
  /** The revision that must be in force. */
  revision?: number;
}

/** What was done last, in words. It is shown above the page: what it was about may be gone from there. */
class Outcome {
  text = $state('');
}

export const outcome = new Outcome();

/** What one control writes. */
export class Writing {
  busy = $state(false);
  fault = $state.raw<Fault>();
  /** The key of a wish whose outcome is not known: said again, it is the same wish. */
  #open: { wish: string; key: string } | undefined;

  /** Sends; undefined when it was refused, which `fault` says, or when an answer is waited for already. */
  async send<T>(order: Order): Promise<T | undefined> {
    if (this.busy) return undefined;
    this.busy = true;
    outcome.text = '';
    this.fault = undefined;
    const body = order.body === undefined ? undefined : JSON.stringify(order.body);
    const wish = `${order.method} ${order.path} ${body ?? ''}`;
    const key = this.#open?.wish === wish ? this.#open.key : crypto.randomUUID();
    this.#open = { wish, key };
    const headers: Record<string, string> = { ...session.headers };
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (order.revision !== undefined) headers['if-match'] = `"${order.revision}"`;
    if (order.method === 'POST') headers['idempotency-key'] = key;
    try {
      const answer = await sent(order.path, { method: order.method, headers, body: body ?? null });
      if (answer.status < 500) this.#open = undefined;
      if (!answer.ok) throw await refused(answer);
      live.soon();
      const text = await answer.text();
      return (text === '' ? {} : JSON.parse(text)) as T;
    } catch (error) {
      this.fault = error instanceof Fault ? error : new Fault(0, String(error));
      if (this.fault.status === 401) session.lost(this.fault);
      return undefined;
    } finally {
      this.busy = false;
    }
  }
}
