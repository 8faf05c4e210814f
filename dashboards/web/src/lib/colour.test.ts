import { expect, it } from 'vitest';
import { css, ink, mix } from './colour';

it('writes with what can be read', () => {
  expect([ink([255, 255, 255]), ink([0, 0, 0]), ink([31, 95, 139]), ink([74, 155, 209])]).toEqual(['#000', '#fff', '#fff', '#000']);
});

it('mixes from one to the other', () => {
  expect([css(mix([0, 0, 0], [200, 100, 50], 0)), css(mix([0, 0, 0], [200, 100, 50], 0.5))]).toEqual(['rgb(0 0 0)', 'rgb(100 50 25)']);
});
