// Holes in a node's data, in words.

import type { Node } from '../api/types';
import { date, delay, words } from './format';

/** The newest of them; empty when there was none. */
export function gap(node: Node): string {
  const last = node.lastGap;
  return last ? `the newest, told ${date(last.toldMs)}: ${words(last.kind)} for ${delay(last.lengthMs)}: ${last.cause}` : '';
}
