import { expect, it } from 'vitest';
import { metrics } from './metrics';

it('sums samples by name, whatever their labels hold', () => {
  const found = metrics(`# HELP trimtab_refused Refused.
# TYPE trimtab_refused counter
trimtab_refused_total{reason="a } 7"} 2
trimtab_refused_total{reason="b"} 3 # {trace="x"} 1
trimtab_store_bytes 4096
trimtab_round_seconds_bucket{le="0.1"} 9
trimtab_broken x
# EOF
`);
  expect([...found]).toEqual([['trimtab_refused_total', 5], ['trimtab_store_bytes', 4096]]);
});
