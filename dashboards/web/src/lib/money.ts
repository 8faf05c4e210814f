// Capacity as money, where its owner said what it costs; nothing is converted, and nothing is guessed.

import type { PriceTable } from '../api/types';
import type { Resource } from './idle';

const GIB = 1024 ** 3;

/** What so many cores, or bytes of memory, cost in an hour. */
export function perHour(prices: PriceTable, resource: Resource, amount: number): number {
  return resource === 'cpu' ? amount * prices.perCoreHour : (amount / GIB) * prices.perGibHour;
}

/** Two decimals, none of what is large, and two digits of what is small: an amount that is not 0 never looks like it. */
export function rounded(amount: number): string {
  const size = Math.abs(amount);
  if (size === 0) return '0';
  if (size >= 10_000) return Math.round(amount).toLocaleString('en-GB');
  if (size >= 0.01) return amount.toFixed(2);
  return amount.toFixed(Math.min(20, Math.ceil(-Math.log10(size)) + 1));
}

/** The currency is text as it was given. */
export function money(prices: PriceTable, amount: number): string {
  return `${rounded(amount)} ${prices.currency}`;
}
