// What the replicas' own use asks for, beside what they are given.

import type { PriceTable, Workload } from '../api/types';
import { bytes, cores, known, span } from './format';
import { money, perHour } from './money';

/** Nearer than this to what is given, nothing is recommended, share. */
const BAND = 0.15;

/** What another size would free or take, over all replicas that are up; with prices, as money an hour. */
export function saving(one: Workload, prices: PriceTable | null | undefined): string {
  const { advice, cpuMillis, memoryBytes } = one.size;
  if (!advice) return '';
  const given = [
    { resource: 'cpu' as const, now: known(cpuMillis) ? cpuMillis / 1000 : undefined, then: advice.cpuMillis / 1000, text: cores },
    { resource: 'memory' as const, now: known(memoryBytes) ? memoryBytes : undefined, then: advice.memoryBytes, text: bytes },
  ];
  if (given.every(({ now }) => now === undefined)) return 'no size is given to compare it with';
  const differ = given.flatMap(({ resource, now, then, text }) =>
    now !== undefined && Math.abs(then / now - 1) > BAND ? [{ resource, amount: (now - then) * one.up, text }] : [],
  );
  if (differ.length === 0) return 'near to what is given: nothing to change';
  const list = (sign: 1 | -1) => differ.filter(({ amount }) => amount * sign > 0).map(({ amount, text }) => text(Math.abs(amount))).join(', ');
  const words = [list(1) && `frees ${list(1)}`, list(-1) && `takes ${list(-1)} more`].filter(Boolean);
  if (words.length === 0) return 'no replica is up';
  const sum = prices ? differ.reduce((all, { resource, amount }) => all + perHour(prices, resource, amount), 0) : 0;
  const cost = prices && sum !== 0 ? `, ${money(prices, Math.abs(sum))} an hour ${sum > 0 ? 'less' : 'more'}` : '';
  return `${words.join(', ')} over ${one.up} ${one.up === 1 ? 'replica' : 'replicas'}${cost}`;
}

/** How sure it is: within what bounds, by how much history. */
export function sureness(one: Workload): string {
  const { advice } = one.size;
  if (!advice) return '';
  const asked = advice.historyMs < advice.afterMs ? `; recommended from ${span(advice.afterMs)} on` : '';
  return `right anywhere from ${cores(advice.cpuMillisLow / 1000)} to ${cores(advice.cpuMillisHigh / 1000)}, from ${bytes(advice.memoryBytesLow)} to ${bytes(advice.memoryBytesHigh)}, as far as ${span(advice.historyMs)} of use tell${asked}`;
}
