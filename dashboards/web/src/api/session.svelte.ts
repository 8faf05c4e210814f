// Whether this page may write: it came with a token in its address, and the autoscaler knows the token.
//
// The token leaves the address at once, so that it is in no history, no bookmark and no picture of the screen. It is kept
// for this tab alone.

import { Fault, refused, sent } from './live.svelte';
import { tokenOf } from '../lib/token';
import type { Session as Said } from './types';

const KEY = 'trimtab-session';

class Session {
  /** Undefined until the autoscaler has said it. */
  writes = $state<boolean>();
  #token: string | undefined;
  #busy = false;

  start(): void {
    this.#take();
    // The address may be pasted into a tab that is open already.
    addEventListener('hashchange', () => this.#take() && void this.check());
  }

  /** Takes the token out of the address, before anything else sees it; else the one that this tab has. */
  #take(): boolean {
    const { token, rest } = tokenOf(location.hash);
    if (token !== undefined) history.replaceState(history.state, '', location.pathname + location.search + rest);
    try {
      if (token) sessionStorage.setItem(KEY, token);
      this.#token = token || (sessionStorage.getItem(KEY) ?? undefined);
    } catch {
      // Good until the page is left.
      this.#token = token || this.#token;
    }
    return token !== undefined;
  }

  get headers(): Record<string, string> {
    return this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` };
  }

  /** Asks whether the token is good; what cannot be asked stays as it was. */
  async check(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    const token = this.#token;
    try {
      const answer = await sent('/api/v1/session', { headers: this.headers });
      if (answer.ok) this.writes = ((await answer.json()) as Said).writes;
      else if (answer.status < 500) this.lost(await refused(answer));
    } catch {
      // Asked again when the autoscaler answers.
    } finally {
      this.#busy = false;
      if (this.#token !== undefined && this.#token !== token) void this.check();
    }
  }

  /** The autoscaler does not take the token. One that is wrong is not sent again. */
  lost(fault: Fault): void {
    this.writes = false;
    if (fault.status !== 401) return;
    this.#token = undefined;
    try {
      sessionStorage.removeItem(KEY);
    } catch {
      // It is in no storage.
    }
  }
}

export const session = new Session();
