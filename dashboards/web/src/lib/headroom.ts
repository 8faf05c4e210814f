// Whether a loss is survived, in a word.

import type { Headroom } from '../api/types';

export type Survival = Headroom['node'];

export interface Said {
  word: string;
  /** Class of the tag; empty for what is not known. */
  tone: '' | 'good' | 'bad';
  why: string;
}

/** Nothing that is not known looks like a yes. */
export function said(survival: Survival): Said {
  const { survives, why, asked, survived, replicas } = survival;
  if (survives === 'yes' && replicas === 0) return { word: 'nothing to lose', tone: '', why: 'Trimtab has started no replica on any' };
  if (survives === 'yes') return { word: 'yes', tone: 'good', why: `each of ${asked} could be lost: what Trimtab runs there has a place elsewhere` };
  const of = survives === 'no' ? `${asked - survived} of ${asked} could not be lost. ` : '';
  return { word: survives === 'no' ? 'no' : 'unknown', tone: survives === 'no' ? 'bad' : '', why: `${of}${why ?? 'no reason was given'}` };
}
