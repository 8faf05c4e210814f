// The token of a session in an address: `#session=TOKEN`.

/** The token, and what stays of the fragment without it. */
export function tokenOf(fragment: string): { token: string | undefined; rest: string } {
  const parts = fragment.replace(/^#/, '').split('&');
  const found = parts.find((part) => part.startsWith('session='));
  const rest = parts.filter((part) => part !== '' && !part.startsWith('session=')).join('&');
  const token = found?.slice('session='.length).trim();
  // One that no header can hold is none; it leaves the address nevertheless.
  return { token: token === undefined ? undefined : /^[\x21-\x7e]+$/.test(token) ? token : '', rest: rest === '' ? '' : `#${rest}` };
}
