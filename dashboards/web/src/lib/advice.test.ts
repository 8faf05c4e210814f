import { describe, expect, it } from 'vitest';
import type { PriceTable, Workload } from '../api/types';
import { saving, sureness } from './advice';

const GIB = 2 ** 30;
const advice = { cpuMillis: 500, memoryBytes: 2 * GIB, cpuMillisLow: 400, cpuMillisHigh: 900, memoryBytesLow: GIB, memoryBytesHigh: 3 * GIB, historyMs: 3_600_000, afterMs: 86_400_000 };
const workload = (size: object, up = 2) => ({ up, size: { advice, ...size } }) as unknown as Workload;
const prices = { currency: 'EUR', perCoreHour: 0.1, perGibHour: 0.01 } as PriceTable;

describe('another size', () => {
  it('frees what is too much and takes what is too little, over all replicas', () => {
    const both = workload({ cpuMillis: 1000, memoryBytes: GIB });
    expect(saving(both, null)).toBe('frees 1 core, takes 2.00 GiB more over 2 replicas');
    expect(saving(both, prices)).toBe('frees 1 core, takes 2.00 GiB more over 2 replicas, 0.08 EUR an hour less');
    expect(saving(workload({ memoryBytes: GIB }, 1), prices)).toBe('takes 1.00 GiB more over 1 replica, 0.01 EUR an hour more');
  });

  it('invents nothing where there is nothing to compare', () => {
    expect(saving(workload({ cpuMillis: 560 }), prices)).toBe('near to what is given: nothing to change');
    expect(saving(workload({}), prices)).toBe('no size is given to compare it with');
    expect(saving(workload({ cpuMillis: 1000 }, 0), prices)).toBe('no replica is up');
    expect(saving({ up: 1, size: {} } as unknown as Workload, prices)).toBe('');
  });

  it('says how sure it is', () => {
    expect(sureness(workload({}))).toBe('right anywhere from 0.40 cores to 0.90 cores, from 1.00 GiB to 3.00 GiB, as far as 1 h of use tell; recommended from 24 h on');
    expect(sureness(workload({ advice: { ...advice, afterMs: 3_600_000 } }))).not.toContain('recommended from');
  });
});
