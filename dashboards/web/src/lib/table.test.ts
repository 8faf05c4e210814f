import { expect, it } from 'vitest';
import { csv, curl, sorted } from './table';

it('quotes what needs it, and leaves unknown cells empty', () => {
  expect(csv(['a', 'b'], [['x,y', 1], ['say "no"', null], ['two\nlines', undefined]])).toBe('a,b\r\n"x,y",1\r\n"say ""no""",\r\n"two\nlines",\r\n');
});

it('makes no formula of a name', () => {
  expect(csv(['a'], [['=cmd()'], ['-1+1'], [-1]])).toBe("a\r\n'=cmd()\r\n'-1+1\r\n-1\r\n");
});

it('writes a call that a shell takes as one word', () => {
  expect(curl('http://127.0.0.1:7780', "/api/v1/workloads/a'b")).toBe("curl -s 'http://127.0.0.1:7780/api/v1/workloads/a'\\''b'");
  expect(curl('http://h', '/p', `{"a":"it's"}`)).toBe(`curl -s 'http://h/p' -H 'content-type: application/json' -d '{"a":"it'\\''s"}'`);
});

it('sorts names with numbers as people do, and what is unknown last', () => {
  const names = ['n10', 'n2', null, 'n1'];
  expect(sorted(names, (n) => n, false)).toEqual(['n1', 'n2', 'n10', null]);
  expect(sorted(names, (n) => n, true)).toEqual(['n10', 'n2', 'n1', null]);
});
