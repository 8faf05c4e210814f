import { expect, it } from 'vitest';
import { said } from './headroom';

it('says yes only when it is one', () => {
  expect(said({ survives: 'yes', why: null, asked: 3, survived: 3, replicas: 2 })).toMatchObject({ word: 'yes', tone: 'good' });
  expect(said({ survives: 'yes', why: null, asked: 1, survived: 1, replicas: 0 })).toMatchObject({ word: 'nothing to lose', tone: '' });
  expect(said({ survives: 'no', why: 'node a: x', asked: 3, survived: 1, replicas: 2 })).toEqual({ word: 'no', tone: 'bad', why: '2 of 3 could not be lost. node a: x' });
  expect(said({ survives: 'unknown', why: 'no node tells its rack', asked: 0, survived: 0, replicas: 0 })).toEqual({ word: 'unknown', tone: '', why: 'no node tells its rack' });
  expect(said({ survives: 'maybe', asked: 1, survived: 1, replicas: 1 }).tone).toBe('');
});
