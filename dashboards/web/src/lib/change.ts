// What changes cost, and what became of them: predicted beside actual.

import type { Decision, PastChange, Workload } from '../api/types';
import { bytes, known, number, percent, span } from './format';

/** What a change of a cluster is expected to cost. */
export interface Price {
  member: string;
  seconds: number;
  bytes: number;
  risk: string;
}

/** The price that a decision names; undefined when it names none. */
export function price(decision: Decision): Price | undefined {
  const detail = decision.reasons.find((reason) => reason.code === 'price')?.detail as Partial<Record<keyof Price, unknown>> | undefined;
  if (!known(detail?.seconds as number) || !known(detail?.bytes as number)) return undefined;
  return { member: String(detail?.member ?? ''), seconds: Number(detail?.seconds), bytes: Number(detail?.bytes), risk: String(detail?.risk ?? '') };
}

/** One line of the history. */
export interface Past {
  key: string;
  atMs: number;
  workload: string;
  /** `scale_out`, … of a decision; `member_came`, `member_went` of a change that is over. */
  kind: string;
  tone: '' | 'good' | 'bad';
  /** What was done. */
  what: string;
  predicted: string;
  actual: string;
  /** Why one of them is not known. */
  unknown: string;
  why: string;
  decision: Decision | undefined;
}

export const KINDS = ['scale_out', 'scale_in', 'replace', 'cancel_drain', 'resize', 'hold', 'member_came', 'member_went'];

export function ofDecision(d: Decision): Past {
  const load = (load: number) => `load of ${number(load)}`;
  const reason = d.reasons.find((one) => one.code !== 'recommend_only') ?? d.reasons[0];
  return {
    key: `d${d.id}`,
    atMs: d.atMs,
    workload: d.workload,
    kind: d.kind,
    tone: d.act ? 'good' : '',
    what: `${d.before === d.after ? '' : `${d.before} → ${d.after}`}${d.act || d.kind === 'hold' ? '' : ' not done'}`.trim(),
    predicted: d.predicted ? `${percent(d.predicted.utilisation)} use, ${load(d.predicted.load)} after ${span(d.predicted.afterMs)}` : '–',
    actual: d.realised ? `${percent(d.realised.utilisation)} use, ${load(d.realised.load)}, ${d.realised.serving} serving` : '–',
    unknown: d.predicted ? 'its time has not come yet, or it was not measured then' : 'this decision predicts nothing',
    why: reason?.text ?? 'no reason was recorded',
    decision: d,
  };
}

function ofChange(workload: string, past: PastChange): Past {
  const came = past.direction === 'out';
  return {
    key: `c${workload} ${past.member} ${past.beganMs}`,
    atMs: past.beganMs + past.tookMs,
    workload,
    kind: came ? 'member_came' : 'member_went',
    tone: past.ended === 'done' ? 'good' : past.ended === 'failed' ? 'bad' : '',
    what: `${past.member} ${past.ended === 'done' ? (came ? 'came' : 'went') : past.ended}`,
    predicted: `${span(past.estimateS * 1000)}, ${bytes(past.bytes)}`,
    actual: `${span(past.tookMs)}${past.estimateS > 0 ? `, ${number(past.tookMs / 1000 / past.estimateS)} times as long` : ''}`,
    unknown: '',
    why: past.ended === 'done' ? '' : `it ${past.ended === 'failed' ? 'failed' : 'was cancelled'}; decisions of that time say why`,
    decision: undefined,
  };
}

/** Decisions and changes that are over, the newest first. Changes older than the oldest decision wait until that is shown, unless all are. */
export function history(decisions: readonly Decision[], workloads: readonly Workload[], filter: { workload: string; kind: string }, all: boolean): Past[] {
  const oldest = all ? 0 : (decisions.at(-1)?.atMs ?? 0);
  const changes = workloads.flatMap((one) => (one.cluster?.past ?? []).map((past) => ofChange(one.name, past))).filter((one) => one.atMs >= oldest);
  return [...decisions.map(ofDecision), ...changes]
    .filter((one) => (filter.workload === '' || one.workload === filter.workload) && (filter.kind === '' || one.kind === filter.kind))
    .sort((a, b) => b.atMs - a.atMs);
}

