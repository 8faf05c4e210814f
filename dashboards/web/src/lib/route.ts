// Which page an address shows. The server answers with the same document for all of them.

export type Route =
  | { page: 'fleet' }
  | { page: 'workloads' }
  | { page: 'workload'; name: string }
  | { page: 'nodes'; find: string }
  | { page: 'node'; name: string }
  | { page: 'missing'; path: string };

export function route(path: string, query = ''): Route {
  const parts = path.split('/').filter((part) => part !== '');
  if (parts.length === 0) return { page: 'fleet' };
  if (parts.length === 1 && parts[0] === 'workloads') return { page: 'workloads' };
  if (parts.length === 1 && parts[0] === 'nodes') return { page: 'nodes', find: new URLSearchParams(query).get('find') ?? '' };
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
};

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}
