// Tables to take away: comma-separated values, and the call that gives the same data.

/** One table as CSV. A cell that a spreadsheet would take for a formula begins with an apostrophe. */
export function csv(header: readonly string[], rows: readonly (readonly (string | number | boolean | null | undefined)[])[]): string {
  const cell = (value: string | number | boolean | null | undefined) => {
    if (value === null || value === undefined) return '';
    if (typeof value !== 'string') return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [header, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}

/** A line for a shell that asks for the same; with a body it is posted. */
export function curl(origin: string, path: string, body?: string): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  return `curl -s ${quoted(origin + path)}${body === undefined ? '' : ` -H 'content-type: application/json' -d ${quoted(body)}`}`;
}

/** Offers text as a file. */
export function save(name: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type: 'text/csv;charset=utf-8' }));
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export type Key = string | number | null | undefined;

/** In order of a key; what is not known comes last, whichever way. */
export function sorted<T>(items: readonly T[], key: (item: T) => Key, down: boolean): T[] {
  const way = down ? -1 : 1;
  return [...items].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    const [noX, noY] = [x === null || x === undefined, y === null || y === undefined];
    if (noX || noY) return Number(noX) - Number(noY);
    if (typeof x === 'number' && typeof y === 'number') return way * (x - y);
    return way * String(x).localeCompare(String(y), 'en', { numeric: true });
  });
}
