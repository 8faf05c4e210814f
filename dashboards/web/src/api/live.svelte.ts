// What the pages show, kept fresh: one event stream per tab for what changes each round, questions for the rest.
//
// When the stream is away (a restart, a proxy, too many streams) everything is asked for instead, and the stream is
// tried again. Paused, nothing is asked and what is shown stays as it was.

import type { Decision, Decisions, Idle, IdlePage, Node, Nodes, Prices, PriceTable, Status, Workload, Workloads } from './types';

/** Period of questions, ms: what has no events; what has, while the stream is up. */
const OFTEN = 2_000;
const SELDOM = 15_000;
/** Events are shown at most once in this time, ms. */
const ROUND = 1_000;
/** A stream that was refused is tried again after this, ms. */
const AGAIN = 5_000;
/** A question that is not answered within this has failed, ms. */
const PATIENCE = 8_000;
/** Without anything for this time, what is shown is called old, ms. */
const LOST = 5_000;
/** Decisions kept. */
const KEPT = 100;

/** What a specification lacks, and at which of its fields. */
export interface FieldFault {
  field: string;
  message: string;
  help?: string | null;
}

/** A fault in words; `status` is 0 when nobody answered. */
export class Fault extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** The end of the problem's type: `conflict`, `would-stay`; empty when there is none. */
    readonly kind = '',
    readonly faults: readonly FieldFault[] = [],
  ) {
    super(message);
  }
}

/** An answer that is no success, as RFC 9457 says it, in words. */
export async function refused(answer: Response): Promise<Fault> {
  const problem = (await answer.json().catch(() => ({}))) as { detail?: unknown; type?: unknown; faults?: unknown };
  const text = typeof problem.detail === 'string' && problem.detail !== '' ? problem.detail : `status ${answer.status}`;
  const kind = typeof problem.type === 'string' ? (problem.type.split(':').at(-1) ?? '') : '';
  return new Fault(answer.status, text, kind, Array.isArray(problem.faults) ? (problem.faults as FieldFault[]) : []);
}

/** Sends a request; what comes back is an answer, whatever it says. */
export async function sent(path: string, options: RequestInit = {}, signal?: AbortSignal, patience = PATIENCE): Promise<Response> {
  const limit = AbortSignal.timeout(patience);
  try {
    return await fetch(path, { ...options, signal: signal ? AbortSignal.any([signal, limit]) : limit });
  } catch {
    throw new Fault(0, 'the autoscaler does not answer');
  }
}

export async function ask<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await sent(path, {}, signal);
  if (!answer.ok) throw await refused(answer);
  return (await answer.json()) as T;
}

class Live {
  status = $state.raw<Status>();
  nodes = $state.raw<Node[]>();
  workloads = $state.raw<Workload[]>();
  decisions = $state.raw<Decision[]>();
  /** Closed pages of the idle ledger, newest first. */
  idle = $state.raw<IdlePage[]>();
  /** What capacity costs; null when nobody said it. */
  prices = $state.raw<PriceTable | null>();
  /** Why the last question failed. */
  fault = $state<string>();
  /** When something last arrived, by this browser's clock, ms. */
  heard = $state<number>();
  /** This browser's clock, each second, ms. */
  clock = $state(Date.now());
  paused = $state(false);
  stream = $state<'up' | 'away'>('away');
  /** Counts rounds, for pages that ask more about one thing. */
  round = $state(0);

  #source: EventSource | undefined;
  #asked = new Map<string, number>();
  #busy = false;
  #waiting = new Map<string, Workload>();
  #fresh: Decision[] = [];
  /** When the newest event came, ms. */
  #event = 0;

  /** The controller's time now, as far as is known, ms. */
  get now(): number {
    return this.clock + this.#ahead;
  }
  #ahead = $state(0);

  /** Time since something arrived, ms. */
  get silence(): number | undefined {
    return this.heard === undefined ? undefined : Math.max(0, this.clock - this.heard);
  }

  /** Nothing arrives any more, though it is asked for. */
  get lost(): boolean {
    return !this.paused && this.fault !== undefined && (this.silence === undefined || this.silence > LOST);
  }

  start(): void {
    this.#open();
    setInterval(() => this.#turn(), ROUND);
    document.addEventListener('visibilitychange', () => this.#turn());
    this.#turn();
  }

  pause(paused: boolean): void {
    this.paused = paused;
    if (paused) this.#close();
    else {
      this.#asked.clear();
      this.#open();
      this.#turn();
    }
  }

  /** Asks for everything at once: something was changed from here. */
  soon(): void {
    this.#asked.clear();
    this.#turn();
  }

  #turn(): void {
    this.clock = Date.now();
    if (this.paused || document.visibilityState === 'hidden') return;
    this.#flush();
    this.round += 1;
    if (!this.#busy) void this.#refresh();
  }

  async #refresh(): Promise<void> {
    this.#busy = true;
    const seldom = this.stream === 'up' ? SELDOM : OFTEN;
    try {
      // All at once: what comes first is shown first.
      await Promise.all([
        this.#due<Status>('/api/v1/status', OFTEN, (status) => {
          this.status = status;
          this.#ahead = status.nowMs - Date.now();
        }),
        this.#due<Nodes>('/api/v1/nodes', OFTEN, (nodes) => (this.nodes = nodes.items)),
        this.#due<Workloads>('/api/v1/workloads', seldom, (workloads) => (this.workloads = workloads.items)),
        this.#due<Decisions>(`/api/v1/decisions?limit=${KEPT}`, seldom, (page) => (this.decisions = page.items)),
        this.#due<Idle>('/api/v1/idle?limit=60', SELDOM, (idle) => (this.idle = idle.items)),
        this.#due<Prices>('/api/v1/prices', SELDOM, (prices) => (this.prices = prices.table ?? null)),
      ]);
      this.fault = undefined;
    } catch (error) {
      this.fault = error instanceof Error ? error.message : String(error);
    } finally {
      this.#busy = false;
    }
  }

  async #due<T>(path: string, period: number, take: (answer: T) => void): Promise<void> {
    if (this.paused) return;
    const began = Date.now();
    // A little early, so that a period of two rounds is not three.
    if (began - (this.#asked.get(path) ?? 0) < period - ROUND / 2) return;
    const answer = await ask<T>(path);
    if (this.paused) return;
    this.#asked.set(path, began);
    this.heard = Date.now();
    take(answer);
  }

  #open(): void {
    this.#close();
    const source = new EventSource('/api/v1/stream');
    this.#source = source;
    source.addEventListener('open', () => {
      this.stream = 'up';
      // What happened while it was away is in no event.
      this.#asked.clear();
    });
    source.addEventListener('error', () => {
      this.stream = 'away';
      // A lost connection is tried again by the browser; a refused one is not.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.#source === source && !this.paused && this.#open(), AGAIN);
    });
    source.addEventListener('workload', (event) => {
      const workload = JSON.parse((event as MessageEvent<string>).data) as Workload;
      this.#waiting.set(workload.name, workload);
      this.#event = Date.now();
    });
    source.addEventListener('decision', (event) => {
      const decision = JSON.parse((event as MessageEvent<string>).data) as Decision;
      // They wait while the tab is hidden.
      this.#fresh = [...this.#fresh, decision].slice(-KEPT);
      this.#event = Date.now();
    });
    source.addEventListener('missed', () => this.#asked.clear());
  }

  #close(): void {
    this.#source?.close();
    this.#source = undefined;
    this.stream = 'away';
    this.#waiting.clear();
    this.#fresh = [];
  }

  #flush(): void {
    // What waits for its list came once, however long it waits.
    if (this.#event > (this.heard ?? 0)) this.heard = this.#event;
    if (this.#waiting.size > 0 && this.workloads) {
      const all = new Map(this.workloads.map((one) => [one.name, one]));
      for (const [name, one] of this.#waiting) all.set(name, one);
      this.workloads = [...all.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
      this.#waiting.clear();
    }
    if (this.#fresh.length > 0 && this.decisions) {
      const seen = new Set(this.#fresh.map((one) => one.id));
      this.decisions = [...this.#fresh.reverse(), ...this.decisions.filter((one) => !seen.has(one.id))].slice(0, KEPT);
      this.#fresh = [];
    }
  }
}

export const live = new Live();
