// Numbers of the autoscaler itself, out of the text that it gives to Prometheus.

/** Sums of samples by name, without labels: `trimtab_store_bytes`. */
export function metrics(text: string): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const line of text.split('\n')) {
    // A label's value may hold spaces and braces; the number is behind the last brace, before an exemplar.
    const [, name, value] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})? (\S+)/.exec(line.replace(/ # \{.*$/, '')) ?? [];
    const number = Number(value);
    if (name === undefined || name.endsWith('_bucket') || value === undefined || Number.isNaN(number)) continue;
    found.set(name, (found.get(name) ?? 0) + number);
  }
  return found;
}
