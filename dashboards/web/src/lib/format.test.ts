import { describe, expect, it } from 'vitest';
import { ago, bytes, cores, date, delay, moment, number, percent, shares, skew, span, tick, time, UNKNOWN } from './format';

describe('ticks of time', () => {
  const at = (hour: number, minute = 0) => new Date(2026, 10, 21, hour, minute).getTime();
  it('have seconds where there is room, and days where days are shown', () => {
    expect([tick(at(12, 30), false, true), tick(at(12, 30), false, false)]).toEqual(['12:30:00', '12:30']);
    expect([tick(at(0), true, false), tick(at(12), true, false)]).toEqual(['21 Nov', '12:00']);
    expect([tick(at(0), false, true), moment(at(12, 5), true), moment(at(12, 5), false)]).toEqual(['00:00:00', '21 Nov 12:05', '12:05:00']);
    expect(moment(null, true)).toBe(UNKNOWN);
  });
});

describe('numbers', () => {
  it('says that it does not know, and never 0', () => {
    for (const format of [number, cores, percent, bytes, span, delay, skew, ago, time, date]) {
      for (const nothing of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY]) {
        expect(format(nothing)).toBe(UNKNOWN);
      }
    }
  });

  it('has as many digits as tell something', () => {
    expect([0, 0.001, 0.034, 1.982, 12.44, 1340].map(number)).toEqual(['0', '<0.01', '0.03', '1.98', '12.4', '1,340']);
    expect([cores(1), cores(0.5)]).toEqual(['1 core', '0.50 cores']);
  });

  it('counts bytes in 1024s', () => {
    expect([0, 1023, 1024, 536870912, 25276502016].map(bytes)).toEqual(['0 B', '1023 B', '1.00 KiB', '512 MiB', '23.5 GiB']);
  });

  it('tells lengths of time in their largest units', () => {
    expect([12, 999, 1000, 61_000, 600_000, 3_660_000, 36_000_000, 200_000_000].map(span)).toEqual([
      '12 ms', '999 ms', '1 s', '1 min 1 s', '10 min', '1 h 1 min', '10 h', '2 d',
    ]);
    expect([4.2, 340, 1200, 61_000].map(delay)).toEqual(['4.20 ms', '340 ms', '1.20 s', '1 min 1 s']);
    expect([ago(400), ago(2100), ago(-5)]).toEqual(['now', '2 s ago', 'now']);
    expect([skew(-4), skew(0), skew(2000), skew(-90_000)]).toEqual(['4 ms behind', '0 ms ahead', '2 s ahead', '1 min 30 s behind']);
  });
});

describe('shares', () => {
  const sum = (texts: string[]) => texts.reduce((all, text) => all + Number.parseFloat(text), 0);

  it('add up to 100 %, however they are rounded', () => {
    for (const ratios of [[1 / 3, 1 / 3, 1 / 3], [0.0004, 0.9996], [0.16666, 0.16667, 0.66667], [1], Array.from({ length: 7 }, () => 1 / 7)]) {
      expect(sum(shares(ratios))).toBeCloseTo(100, 6);
    }
  });

  it('invent nothing where nothing is', () => {
    expect(shares([])).toEqual([]);
    expect(shares([0, 0])).toEqual(['0.0 %', '0.0 %']);
  });
});
