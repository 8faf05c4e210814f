// A specification as a form: what of it is edited, what an edit makes of the document, and what differs between two.

export type Document = Record<string, unknown>;

/** A field of the form. */
export interface Field {
  /** Its path in the document, as faults name it. */
  path: string;
  label: string;
  /** How it is written. */
  hint: string;
  /** A field that cannot be left empty. */
  needed: boolean;
}

const TARGETS: Record<string, Omit<Field, 'path'>> = {
  queueDelayP95: { label: 'Queue delay, p95', hint: 'a time: 20ms', needed: false },
  cpu: { label: 'Use of what is given', hint: 'a share: 65%', needed: false },
  containerWait: { label: 'Wait for a container', hint: 'a time: 30s', needed: false },
  disk: { label: 'Disk in use', hint: 'a share: 60%', needed: false },
  latencyP99: { label: 'Request latency, p99', hint: 'a time: 20ms', needed: false },
};

/** What a type can be measured by. */
const OF: Record<string, string[]> = {
  rails: ['queueDelayP95', 'cpu'],
  service: ['cpu'],
  yarn: ['containerWait'],
  hdfs: ['disk'],
  cassandra: ['disk', 'latencyP99'],
};

export const MODES: { mode: string; text: string }[] = [
  { mode: 'observe', text: 'observe: measure only' },
  { mode: 'recommend', text: 'recommend: say what would be done' },
  { mode: 'auto', text: 'auto: do it' },
];

/** The value at a path; undefined where there is none. */
export function at(document: unknown, path: string): unknown {
  let value: unknown = document;
  for (const part of path.split('.')) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Document)[part];
  }
  return value;
}

/** The fields of a document: targets of its type and those that it has, and the bounds. */
export function fields(document: Document): Field[] {
  const kind = String(at(document, 'spec.type') ?? '');
  const has = Object.entries((at(document, 'spec.target') ?? {}) as Document).filter(([, value]) => value != null);
  const names = [...new Set([...(OF[kind] ?? []), ...has.map(([name]) => name)])];
  const alone = names.length === 1;
  return [
    ...names.map((name) => {
      const known = TARGETS[name] ?? { label: name, hint: '', needed: false };
      return { ...known, path: `spec.target.${name}`, needed: alone || (kind === 'cassandra' && name === 'disk') };
    }),
    { path: 'spec.replicas.min', label: 'Replicas at least', hint: 'a whole number', needed: true },
    { path: 'spec.replicas.max', label: 'Replicas at most', hint: 'a whole number', needed: true },
    { path: 'spec.mode', label: 'Mode', hint: '', needed: true },
  ];
}

/** What the form says at first. */
export function values(document: Document): Record<string, string> {
  return Object.fromEntries(fields(document).map(({ path }) => [path, String(at(document, path) ?? '')]));
}

/** What an address suggests for the form: fields of the document by their path. */
export function suggested(document: Document, query: URLSearchParams): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { path } of fields(document)) {
    const text = query.get(path);
    if (text !== null && path !== 'spec.mode') found[path] = text.slice(0, 100);
  }
  return found;
}

/** The document with what the form says. Empty fields are left out; what is no number stays a text, and the interface says what is wrong with it. */
export function edited(document: Document, form: Record<string, string>): Document {
  const copy = structuredClone(document);
  for (const { path } of fields(document)) {
    const text = (form[path] ?? '').trim();
    if (text === String(at(document, path) ?? '')) continue;
    const parts = path.split('.');
    const name = parts.pop() ?? '';
    let place = copy;
    for (const part of parts) {
      const inner = place[part];
      place = (typeof inner === 'object' && inner !== null ? inner : (place[part] = {})) as Document;
    }
    if (text === '') delete place[name];
    else place[name] = path.startsWith('spec.replicas.') && /^\d{1,9}$/.test(text) ? Number(text) : text;
  }
  return copy;
}

export interface Difference {
  path: string;
  /** Undefined: it was not there. */
  before: string | undefined;
  after: string | undefined;
}

/** What differs, leaf by leaf, in the order of the documents. */
export function differences(before: unknown, after: unknown): Difference[] {
  const [old, now] = [leaves(before), leaves(after)];
  return [...new Set([...old.keys(), ...now.keys()])]
    .map((path) => ({ path, before: old.get(path), after: now.get(path) }))
    .filter((one) => one.before !== one.after);
}

function leaves(value: unknown, path = '', found = new Map<string, string>()): Map<string, string> {
  if (value === null || value === undefined) return found;
  if (typeof value === 'object' && Object.keys(value).length > 0) {
    for (const [name, inner] of Object.entries(value)) leaves(inner, path === '' ? name : `${path}.${name}`, found);
  } else found.set(path, typeof value === 'object' ? '(empty)' : String(value));
  return found;
}

/** What happens to the replicas that are wanted now, in words. */
export function replicas(now: number | null | undefined, bounds: readonly [number, number], mode: unknown): string {
  const [min, max] = bounds;
  const room = min === max ? `exactly ${min}` : `between ${min} and ${max}`;
  if (now === null || now === undefined) return `How many are wanted now is not known; afterwards ${room}.`;
  const to = Math.min(max, Math.max(min, now));
  if (to === now) return `${now} wanted now, which stays possible: afterwards ${room}.`;
  const many = Math.abs(to - now);
  const what = to > now ? `${many} more must start` : `${many} must end`;
  const hold = mode === 'auto' ? '' : ` Mode ${String(mode)}: it is only said, not done.`;
  return `${now} wanted now, afterwards ${room}: ${what}.${hold}`;
}
