// Which page an address shows. The server answers with the same document for all of them.

export type Route =
  | { page: 'fleet' }
  | { page: 'workloads' }
  | { page: 'workload'; name: string }
  | { page: 'nodes' }
  | { page: 'node'; name: string }
  | { page: 'changes' }
  | { page: 'what-if' }
  | { page: 'system' }
  | { page: 'missing'; path: string };

export function route(path: string): Route {
  const parts = path.split('/').filter((part) => part !== '');
  if (parts.length === 0) return { page: 'fleet' };
  if (parts.length === 1 && (parts[0] === 'workloads' || parts[0] === 'nodes' || parts[0] === 'changes' || parts[0] === 'what-if' || parts[0] === 'system')) return { page: parts[0] };
  if (parts.length === 2 && (parts[0] === 'workloads' || parts[0] === 'nodes')) {
    const name = decoded(parts[1] ?? '');
    if (name !== undefined) return { page: parts[0] === 'nodes' ? 'node' : 'workload', name };
  }
  return { page: 'missing', path };
}

export const link = {
  fleet: '/',
  workloads: '/workloads',
  workload: (name: string) => `/workloads/${encodeURIComponent(name)}`,
  node: (name: string) => `/nodes/${encodeURIComponent(name)}`,
  nodes: (find = '') => (find === '' ? '/nodes' : `/nodes?find=${encodeURIComponent(find)}`),
  changes: (workload = '') => (workload === '' ? '/changes' : `/changes?workload=${encodeURIComponent(workload)}`),
  whatIf: (workload = '') => (workload === '' ? '/what-if' : `/what-if?workload=${encodeURIComponent(workload)}`),
  system: '/system',
};

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}
