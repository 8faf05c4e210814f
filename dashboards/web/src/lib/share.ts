// Who uses a node: its tasks gathered by workload, or by what they are, the largest first.

import type { Task } from '../api/types';
import { known } from './format';
import type { Resource } from './idle';

export interface Share {
  name: string;
  /** A workload's; else what is not one's. */
  workload: boolean;
  /** Cores or bytes. */
  amount: number;
  /** Tasks whose use is in it. */
  tasks: number;
}

/** At most `most` shares; what is behind them is one more, without a name of its own. Tasks whose use is not known are in none. */
export function shares(tasks: readonly Task[], resource: Resource, most: number): { named: Share[]; rest: Share | undefined; unknown: number } {
  const found = new Map<string, Share>();
  let unknown = 0;
  for (const task of tasks) {
    const amount = resource === 'cpu' ? task.cpuCores : task.memoryBytes;
    if (!known(amount)) {
      unknown += 1;
      continue;
    }
    const workload = task.workload != null;
    const name = task.workload ?? task.kind;
    const key = `${workload} ${name}`;
    const one = found.get(key) ?? { name, workload, amount: 0, tasks: 0 };
    one.amount += amount;
    one.tasks += 1;
    found.set(key, one);
  }
  const all = [...found.values()].filter((one) => one.amount > 0).sort((a, b) => b.amount - a.amount);
  const behind = all.slice(most);
  const sum = (of: (one: Share) => number) => behind.reduce((total, one) => total + of(one), 0);
  const rest = behind.length === 0 ? undefined : { name: `${behind.length} more`, workload: false, amount: sum((one) => one.amount), tasks: sum((one) => one.tasks) };
  return { named: all.slice(0, most), rest, unknown };
}
