import { expect, it } from 'vitest';
import { tokenOf } from './token';

it('takes the token out of an address, and leaves the rest', () => {
  expect(tokenOf('#session=abc-123')).toEqual({ token: 'abc-123', rest: '' });
  expect(tokenOf('#part&session=a=b&more')).toEqual({ token: 'a=b', rest: '#part&more' });
});

it('finds none where there is none', () => {
  for (const none of ['', '#', '#nosession=x', '#part']) expect(tokenOf(none).token).toBeUndefined();
  expect(tokenOf('#part').rest).toBe('#part');
});

it('takes no header out of an address', () => {
  for (const bad of ['#session=', '#session=a b', '#session=a\r\nx: y', '#session=ä']) expect(tokenOf(bad)).toEqual({ token: '', rest: '' });
});
