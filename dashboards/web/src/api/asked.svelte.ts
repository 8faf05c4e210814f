// One question, asked when a component begins, when what it reads changes, and again each period.

import { untrack } from 'svelte';
import { live } from './live.svelte';

/** The newest answer to a question; of two under way the later one counts. Made where a component begins. */
export class Asked<T> {
  value = $state.raw<T>();
  /** Why it was not answered last. */
  fault = $state<string>();
  #began = 0;

  /** `question` is asked anew when something changes that it reads before its first wait; `period` is in ms. */
  constructor(question: () => Promise<T>, period: number) {
    $effect(() => void this.#ask(question()));
    $effect(() => {
      // No rounds while paused or hidden.
      void live.round;
      untrack(() => {
        if (Date.now() - this.#began > period) void this.#ask(question());
      });
    });
  }

  async #ask(answer: Promise<T>): Promise<void> {
    const mine = (this.#began = Date.now());
    try {
      const found = await answer;
      if (mine === this.#began) [this.value, this.fault] = [found, undefined];
    } catch (error) {
      if (mine === this.#began) this.fault = error instanceof Error ? error.message : String(error);
    }
  }
}
