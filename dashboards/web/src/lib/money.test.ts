import { expect, it } from 'vitest';
import type { PriceTable } from '../api/types';
import { money, perHour, rounded } from './money';

const prices: PriceTable = { name: 'default', revision: 1, appliedMs: 0, currency: 'EUR', perCoreHour: 0.03, perGibHour: 0.004, document: {} };

it('multiplies amounts by their price', () => {
  expect(perHour(prices, 'cpu', 10)).toBeCloseTo(0.3, 12);
  expect(perHour(prices, 'memory', 5 * 1024 ** 3)).toBeCloseTo(0.02, 12);
  expect(money(prices, perHour(prices, 'cpu', 40))).toBe('1.20 EUR');
});

it('rounds, and never to nothing', () => {
  expect([0, 0.0004239, 0.00999, 0.01, 1.5, 9_999.994, 123_456.7].map(rounded)).toEqual(['0', '0.00042', '0.0100', '0.01', '1.50', '9999.99', '123,457']);
});
