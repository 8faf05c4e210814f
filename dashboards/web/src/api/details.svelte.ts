// Specifications of workloads: asked for once each, and again when a decision or an operator may have changed them.

import { ask } from './live.svelte';
import type { WorkloadDetail } from './types';

/** Specifications kept and asked for at once for a list; the rest shows its target on its own page. */
const MOST = 200;
const PERIOD = 60_000;

class Details {
  all = $state.raw<ReadonlyMap<string, WorkloadDetail>>(new Map());
  #asked = new Map<string, number>();
  #busy = false;

  /** It was changed from here: it is asked for again at once. */
  forget(name: string): void {
    this.#asked.delete(name);
  }

  /** Sees to it that these are there and not old. */
  async want(names: readonly string[]): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      const due = names.slice(0, MOST).filter((name) => Date.now() - (this.#asked.get(name) ?? 0) > PERIOD);
      const found = new Map(this.all);
      for (const name of due) {
        this.#asked.set(name, Date.now());
        try {
          found.set(name, await ask<WorkloadDetail>(`/api/v1/workloads/${encodeURIComponent(name)}`));
        } catch {
          // Its target stays unknown until it is asked for again.
          found.delete(name);
        }
      }
      if (due.length > 0) this.all = found;
    } finally {
      this.#busy = false;
    }
  }
}

export const details = new Details();
