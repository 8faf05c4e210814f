// Answers of an interface with a large and partly sick fleet, and with names that mean harm. For tests of what pages
// make of them; types.test-d.ts of the generated types would not see them, so keep them as `generated.ts` says.

export const HOSTILE = '<img src=x onerror="globalThis.harmed=1">';
export const RTL = '\u202Egnp.exe\u202C عربى';
export const LONG = 'n'.repeat(10_000);

/** Tasks of a node, or the replicas of a workload on three of them. */
function tasks(node) {
  const one = (i) => ({
    node: node ?? `node-0000${i}`,
    cgroup: i,
    kind: i % 3 === 0 ? 'service' : 'task',
    name: i === 2 ? HOSTILE : `web-${i}`,
    task: i % 3 === 0 ? null : i === 2 ? HOSTILE : `web-${i}`,
    workload: i % 3 === 0 ? null : i % 5 === 0 ? LONG : 'web',
    cpuCores: i % 7 === 0 ? null : 8 / (i + 3),
    memoryBytes: i % 4 === 0 ? null : 2 ** 30 / i,
    runDelayMeanSeconds: i % 2 === 0 ? null : i / 1e5,
    ageMs: 300,
    totals: { cpu_time_us: i * 123_456_789 },
  });
  return Array.from({ length: node ? 400 : 3 }, (_, i) => one(i + 1));
}

function ended(now) {
  const one = (i) => ({
    node: 'node-00001', boot: 'b', cgroup: 9_000 + i, kind: 'task', name: i === 1 ? HOSTILE : i === 2 ? LONG : `web-${i}`, workload: i % 2 ? 'web' : null,
    task: null, endedMs: now - i * 70_000, cpuTotalUs: i === 3 ? null : i * 5e6, totals: {}, status: i === 0 ? 0 : null, signal: i === 1 ? 9 : null, asked: i === 1,
  });
  return [0, 1, 2, 3].map(one);
}

export function nodes(count, now) {
  const names = [HOSTILE, RTL, LONG];
  return Array.from({ length: count }, (_, i) => {
    const connected = i % 97 !== 5;
    const known = connected && i % 61 !== 7;
    const share = Math.min(1, Math.abs(Math.sin(i * 12.9898)) ** 1.6 * 1.1);
    return {
      name: names[i] ?? `node-${String(i).padStart(5, '0')}`,
      connected,
      tier: 'ABC'[i % 3],
      acts: i % 4 !== 0,
      cpus: 16,
      cpuCores: known ? share * 16 : null,
      memoryTotalBytes: 64 * 2 ** 30,
      memoryBytes: known ? (0.2 + 0.7 * Math.abs(Math.cos(i))) * 64 * 2 ** 30 : null,
      tasks: 25,
      ageMs: connected ? (i % 211 === 9 ? 42_000 : 300 + (i % 700)) : 360_000,
      kernel: '6.1.0-32-amd64',
      boot: '0'.repeat(32),
      launchers: ['puma-web'],
      features: ['run-queue delay'],
      unavailable: i % 3 === 2 ? [{ what: 'io', why: HOSTILE }] : [],
      samples: 1000,
      refusedSamples: 0,
      accountingErrorRatio: 0.00002,
      agentVersion: i % 7 ? '0.1.0' : LONG,
      clockSkewMs: i % 4 === 3 ? null : i % 5 === 1 ? 93_000 : -3,
      spooledRounds: i % 4 === 3 ? null : i % 6 === 1 ? 512 : 0,
      spooledBytes: i % 4 === 3 ? null : i % 6 === 1 ? 4 * 2 ** 20 : 0,
      gaps: i % 3 === 1 ? 2 : 0,
      lastGap: i % 3 === 1 ? { kind: 'lost', cause: i % 2 ? LONG : HOSTILE, lengthMs: 42_000, toldMs: now - 3_600_000 } : null,
      rack: i % 5 === 0 ? null : `r${i % 5}`,
      waits: known
        ? { seconds: 61, runDelayMeanSeconds: 1e-5 * (1 + (i % 90)), runDelayP99Seconds: 1e-5 * 10 ** ((i % 9) / 2), cpuStallRatio: share / 2, memoryStallRatio: i % 5 ? 0.01 : null, ioStallRatio: (i % 10) / 10 }
        : null,
      runDelayUnknown: known ? null : HOSTILE,
      stallsUnknown: known && i % 5 ? null : HOSTILE,
      network: known && i % 6 ? { receivedBytesPerSecond: 10 ** (i % 10), sentBytesPerSecond: 10 ** ((i * 7) % 10), receivedBytes: 2 ** 40, sentBytes: 2 ** 41 } : null,
      networkUnknown: known && i % 6 ? null : HOSTILE,
      reserved: { replicas: i % 4, cpuCores: i % 4 === 3 ? null : (i % 4) * 6, memoryBytes: (i % 4) * 2 ** 34, withoutSize: i % 4 === 3 ? 3 : 0 },
      drain: i === 12 ? { why: HOSTILE, left: 2 } : null,
    };
  });
}

const reason = (code, text) => ({ code, text, detail: {} });

export function decision(id, workload, more = {}) {
  return {
    id: String(id),
    atMs: Date.now() - id * 7_000,
    workload,
    act: true,
    kind: 'scale_out',
    before: 3,
    after: 5,
    tasks: ['web-4', 'web-5'],
    summary: `${workload}: scale out 3 -> 5`,
    reasons: [
      reason('queue_delay_above', '95 % of requests wait up to 31 ms for a free thread, the target is 20 ms, and it has been above for 30 s'),
      reason('forecast', 'the forecast asks for 5'),
    ],
    parts: [
      { signal: 'queue_delay', wish: 5, detail: '410 requests/s, 96 per replica' },
      { signal: 'cpu', wish: 4, detail: '' },
    ],
    binding: reason('step', 'at most 2 at a time'),
    alternatives: [{ replicas: 6, why: reason('step', 'at most 2 at a time') }],
    predicted: { afterMs: 12_000, utilisation: 0.61, load: 3.1 },
    realised: id > 3 ? { afterMs: 12_000, utilisation: 0.58, load: 2.9, serving: 5 } : null,
    inputsHash: '5a13e988b57e15bf',
    policy: 'trimtab',
    ...more,
  };
}

export function workloads() {
  const base = {
    kind: 'rails',
    mode: 'auto',
    policy: 'trimtab',
    min: 2,
    max: 20,
    wanted: 5,
    up: 4,
    starting: 1,
    leaving: 0,
    replicas: Array.from({ length: 5 }, (_, i) => ({
      task: `web-${i + 1}`,
      node: i === 0 ? HOSTILE : `node-0000${i + 3}`,
      state: i === 4 ? 'booting' : 'up',
      sinceMs: Date.now() - 3_600_000 * (i + 1),
      port: 20_000 + i,
      detail: i === 4 ? 'waits for its health check' : '',
    })),
    paused: null,
    frozen: [],
    load: {
      requestsPerSecond: 412,
      queueDelayP95Ms: 31.4,
      queued: 3,
      utilisation: 0.72,
      cpuCores: 5.6,
      memoryBytes: 2.4 * 2 ** 30,
      load: 412,
      forecast: 455,
      capacity: 96,
      readyAfterMs: 12_000,
    },
    size: { mode: 'recommend', cpuMillis: 2000, memoryBytes: 2 ** 30, phase: 'steady', toCpuMillis: null, toMemoryBytes: null, canary: null, held: null, heldUntilMs: null,
      advice: { cpuMillis: 1300, memoryBytes: 640 * 2 ** 20, cpuMillisLow: 900, cpuMillisHigh: 1700, memoryBytesLow: 500 * 2 ** 20, memoryBytesHigh: 900 * 2 ** 20, historyMs: 32_400_000, afterMs: 86_400_000 } },
    last: decision(1, 'web'),
  };
  const ring = {
    ...base,
    name: 'ring',
    kind: 'cassandra',
    mode: 'recommend',
    wanted: 4,
    up: 3,
    starting: 1,
    size: { ...base.size, cpuMillis: null, memoryBytes: null },
    last: decision(2, 'ring', { act: false, kind: 'hold', reasons: [reason('missing', HOSTILE)] }),
    cluster: {
      cluster: 'ring',
      found: ['10.0.0.11'],
      recommends: null,
      change: { member: '10.0.0.14', direction: 'out', state: 'joining', sinceMs: Date.now() - 90_000, beganMs: Date.now() - 200_000, elapsedMs: 200_000, estimateS: 600, bytes: 42 * 2 ** 30, risk: '', detail: 'the ring lists it as joining' },
      past: [{ member: HOSTILE, direction: 'in', ended: 'failed', beganMs: Date.now() - 9_000_000, tookMs: 700_000, estimateS: 600, bytes: 40 * 2 ** 30 }],
    },
  };
  const store = {
    ...ring,
    name: 'store',
    kind: 'hdfs',
    last: decision(7, 'store', {
      act: false, kind: 'scale_out', before: 3, after: 4, predicted: null, realised: null,
      reasons: [reason('recommend_only', 'x'), { code: 'price', text: 'it takes 20 min', detail: { member: `${HOSTILE}:9866`, seconds: 1200, bytes: 42 * 2 ** 30, risk: HOSTILE } }, reason('disk_above', HOSTILE)],
    }),
    cluster: { ...ring.cluster, cluster: 'store', change: null, recommends: '7', past: [] },
  };
  return [
    ring,
    store,
    { ...base, name: 'web' },
    { ...base, name: 'worker', kind: 'service', paused: HOSTILE, load: { ...base.load, queueDelayP95Ms: null, utilisation: 0.44 } },
    { ...base, name: HOSTILE, last: decision(3, HOSTILE, { summary: LONG }) },
    { ...base, name: LONG, mode: 'observe', last: null },
  ];
}

export function idle(now) {
  const minute = 60 * 2000 * 16;
  const line = (cause, share, workload = null) => ({
    cause, workload, rule: null, cpuCoreSeconds: minute * share, memoryGibSeconds: minute * 4 * share, cpuRatio: share, memoryRatio: share,
  });
  const lines = [line('no_data', 0.01), line('cooling_down', 0.03, 'web'), line('kept_for_failure', 0.02, HOSTILE), line('blocked', 0.04, 'worker'),
    line('over_sized', 0.17, 'web'), line('over_sized', 0.06, LONG), line('fragmented', 0.05), line('unmanaged', 0.08), line('no_demand', 0.14)];
  const used = 1 - lines.reduce((sum, one) => sum + one.cpuRatio, 0);
  return [{
    fromMs: now - 70_000, toMs: now - 10_000,
    capacity: { cpuCoreSeconds: minute, memoryGibSeconds: minute * 4 },
    used: { cpuCoreSeconds: minute * used, memoryGibSeconds: minute * 4 * used },
    idle: lines,
  }];
}

/** What would have been, of one workload or of some that mean harm. */
function whatIf(names) {
  const wave = (most, gap) => Array.from({ length: 300 }, (_, i) => (gap && i > 90 && i < 110 ? null : Math.round(most * (0.6 + 0.4 * Math.sin(i / 20)))));
  const outcome = (most) => ({ replicaHours: most * 14.4, coreHours: most * 7.2, gibHours: most * 14.4, breachMinutes: 12 - most, changes: 31, most, cpuMillis: 500, memoryBytes: 2 ** 30 });
  const said = (before, after) => ({ before, after, reasons: [reason('within_target', HOSTILE), reason('at_max', LONG)] });
  const differences = Array.from({ length: 50 }, (_, i) => ({ atMs: Date.now() - i * 600_000, asIs: said(4, 4), asked: said(4, 5) }));
  const series = { stepMs: 288_000, load: wave(9, true), recorded: wave(6, true), asIs: wave(7, true), asked: wave(5, true) };
  const played = (name) => ({ name, kind: 'rails', unit: 'requests_per_second', coveredMs: 80_000_000, why: null, enoughInMs: null, asIs: outcome(9), asked: outcome(7), series, differences, differed: 213, assumes: [HOSTILE, LONG] });
  const refused = (name) => ({ ...played(name), why: `only 5 min: ${HOSTILE}`, enoughInMs: 400_000, coveredMs: 300_000, asIs: null, asked: null, series: null, differences: [], differed: 0, assumes: [] });
  const unplaced = [{ workload: HOSTILE, count: 3 }, { workload: LONG, count: 1 }, { workload: null, count: 2 }];
  const nodes = { givenCpuMillis: 400_000, givenMemoryBytes: 2 ** 40, othersCpuMillis: 9_000, othersMemoryBytes: 2 ** 36, nodes: 1900, used: 31, unplaced, loss: { lost: [HOSTILE, LONG], unplaced }, ofType: { nodes: 77, least: 70, pricePerHour: 30.8, unplaced }, memoryUnknown: [HOSTILE] };
  return {
    apiVersion: 'trimtab/v1', fromMs: Date.now() - 86_400_000, toMs: Date.now(), stepMs: 60_000, limited: HOSTILE, nodesAsIs: nodes, nodesAsked: { ...nodes, used: 27 },
    workloads: names.length > 0 ? names.map(played) : [played('web'), played(HOSTILE), refused(HOSTILE.slice(1)), refused(LONG)],
  };
}

/** Answers instead of the interface. */
export async function serve(page, count, writes = true) {
  const json = (make) => (route) => route.fulfill({ json: make(new URL(route.request().url())) });
  const of = (url) => decodeURIComponent(url.pathname.split('/')[4] ?? '');
  const find = (url) => workloads().find((one) => one.name === of(url)) ?? workloads()[1];
  const document = (one) => ({
    apiVersion: 'trimtab/v1',
    kind: 'Workload',
    metadata: { name: one.name },
    spec: {
      type: one.kind,
      mode: one.mode,
      replicas: { min: one.min, max: one.max },
      target: one.kind === 'rails' ? { queueDelayP95: '20ms' } : one.kind === 'service' ? { cpu: '65%' } : one.kind === 'hdfs' ? { disk: '70%' } : { disk: '60%', latencyP99: '20ms' },
      [one.kind]: { launcher: HOSTILE },
    },
  });
  const revisions = (one) => {
    const now = document(one);
    const before = { ...now, spec: { ...now.spec, mode: 'observe', replicas: { min: 1, max: 2 }, [HOSTILE]: HOSTILE, [LONG]: LONG } };
    const item = (revision, document, more = {}) => ({ revision, atMs: Date.now() - (4 - revision) * 3_600_000, document, inForce: false, withdrawn: false, ...more });
    return [item(3, now, { inForce: true }), item(2, null, { withdrawn: true }), item(1, before)];
  };
  const api = '**/api/v1';
  await page.route(`${api}/stream`, (route) => route.fulfill({ status: 503, json: {} }));
  await page.route(`${api}/status`, json(() => ({
    apiVersion: 'trimtab/v1', version: '0.1.0', state: 'acting', frozen: null, epoch: 1, agents: count, nowMs: Date.now(),
    pauses: [{ workload: 'worker', reason: HOSTILE, sinceMs: 0, untilMs: null }],
  })));
  await page.route(`${api}/nodes`, json(() => ({ items: nodes(count, Date.now()) })));
  await page.route(`${api}/nodes/*/delays`, json((url) => ({
    apiVersion: 'trimtab/v1', node: of(url), count: 4711, p50Seconds: 3e-6, p90Seconds: 8e-5, p99Seconds: 0.021, unknown: null,
    buckets: Array.from({ length: 18 }, (_, i) => ({ fromSeconds: i === 0 ? 0 : 1.024e-6 * 2 ** (i - 1), toSeconds: 1.024e-6 * 2 ** i, count: i === 7 ? 0 : Math.round(4000 / (1 + (i - 4) ** 2)) })),
  })));
  await page.route(`${api}/nodes/*/drain`, (route) => {
    if (route.request().method() !== 'GET') return route.fallback();
    const item = (workload, more) => ({ workload, tasks: 2, seconds: 12, bytes: 0, risk: 'none ends before another one takes its place elsewhere', waitsFor: [], stays: null, ...more });
    return json((url) => ({
      apiVersion: 'trimtab/v1', node: of(url),
      items: [item('web', {}), item(HOSTILE, { stays: reason('no_node_with_launcher', LONG) }), item(LONG, { tasks: 1, seconds: 1260, bytes: 3 * 2 ** 30, risk: RTL, waitsFor: [reason('gate', HOSTILE)] })],
    }))(route);
  });
  await page.route(`${api}/workloads`, json(() => ({ items: workloads() })));
  await page.route(`${api}/workloads/*`, json((url) => ({ revision: 3, appliedMs: Date.now(), document: document(find(url)), status: find(url) })));
  await page.route(`${api}/workloads/*/explain`, json((url) => ({
    frozen: null, workload: find(url), blocks: [reason('missing', HOSTILE)], wouldAct: [LONG],
    decisions: Array.from({ length: 6 }, (_, i) => decision(i, 'web')), anomalies: [`${Date.now()} web-1: ${HOSTILE}`],
  })));
  await page.route(`${api}/workloads/*/course*`, json((url) => {
    const values = (make) => Array.from({ length: 60 }, (_, i) => (i > 20 && i < 25 ? null : make(i)));
    const load = (i) => 400 + 80 * Math.sin(i / 9);
    return {
      apiVersion: 'trimtab/v1', workload: of(url), fromMs: Date.now() - 3_600_000, stepMs: 60_000, load: values(load), expected: values((i) => load(i + 1) * 1.02),
      upper: values((i) => load(i + 1) * 1.15), carried: values((i) => (i < 40 ? 480 : 576)), queueDelayP95Ms: values((i) => 12 + (i % 13)), utilisation: values((i) => 0.5 + (i % 7) / 20),
      up: values(() => 5), wanted: values(() => 6),
    };
  }));
  await page.route(`${api}/workloads/*/neighbours*`, json((url) => {
    const item = (i, name, more) => ({ node: `node-0000${i}`, name, workload: i % 2 === 0, meanCores: 4 / i, waitedPerCpuSecond: 0.1 / i, waitedPerSecond: 0.4 / i, explained: 0.8 / i, standardErrors: 12 / i, points: 360, standsOut: i < 3, ...more });
    const on = (node, unknown) => ({ node, waitedPerSecond: unknown ? null : 0.21, points: unknown ? 0 : 360, unknown });
    return {
      apiVersion: 'trimtab/v1', workload: of(url), fromMs: Date.now() - 3_600_000, toMs: Date.now(), stepMs: 10_000, summary: `on ${HOSTILE} its waits move most with ${LONG}`,
      nodes: [on('node-00001', null), on(HOSTILE, HOSTILE)], leftOut: 2, compared: 321, items: [item(1, HOSTILE), item(2, LONG), item(3, 'cron', { waitedPerCpuSecond: -0.02, waitedPerSecond: 0 }), item(4, RTL)],
    };
  }));
  await page.route(`${api}/session`, json(() => ({ apiVersion: 'trimtab/v1', writes })));
  await page.route(`${api}/workloads/*/revisions`, json((url) => ({ items: revisions(find(url)) })));
  await page.route(`${api}/members`, json(() => ({
    items: [11, 12, 13, 14].map((i) => ({
      kind: 'cassandra', cluster: 'ring', member: `10.0.0.${i}`, state: i === 14 ? 'joining' : 'normal', inService: i !== 14,
      sizeBytes: i === 12 ? null : 500 * 2 ** 30, usedBytes: i === 12 ? null : i * 21 * 2 ** 30, detail: i === 13 ? HOSTILE : 'dc1/rack1, 41.0 MiB of data', node: 'node-00003', ageMs: 900,
    })),
  })));
  await page.route(`${api}/decisions*`, json(() => ({
    items: [...Array.from({ length: 8 }, (_, i) => decision(i, i % 3 === 2 ? HOSTILE : 'web')), decision(9, LONG, { act: false, kind: 'scale_in', reasons: [reason('recommend_only', 'x'), reason('below', LONG)] })],
  })));
  await page.route(`${api}/idle*`, json(() => ({ items: idle(Date.now()) })));
  await page.route(`${api}/doctor`, json(() => {
    const one = (check, verdict, found) => ({ check, verdict, found, ...(verdict === 'PASS' ? {} : { fix: LONG }) });
    return {
      apiVersion: 'trimtab/v1', ok: false,
      findings: [one('store', 'FAIL', HOSTILE), one('acting', 'PASS', 'acting'), one('agents', 'WARN', `1 of 2 connected; not ${RTL}`), one(`measured: ${HOSTILE}`, 'WARN', LONG), one('history', 'PASS', HOSTILE)],
    };
  }));
  await page.route(`${api}/headroom`, json(() => {
    const why = `node ${HOSTILE}: 2 of 3 replicas of ${LONG} would have no place, no other node may start them`;
    const loss = (of, name, survives, replicas) => ({ of, name, survives, why, replicas, members: 1, short: [] });
    return {
      apiVersion: 'trimtab/v1', node: { survives: 'no', why, asked: count, survived: count - 3, replicas: 9 }, rack: { survives: 'unknown', why: 'no node tells its rack', asked: 0, survived: 0, replicas: 0 },
      losses: [loss('node', HOSTILE, 'no', 3), loss('node', RTL, 'no', 3), loss('node', LONG, 'unknown', 7), loss('rack', HOSTILE, 'unknown', 7)],
      free: { cpuCores: count * 3.5, memoryBytes: count * 2 ** 33 }, freeOn: count - 1, without: [HOSTILE],
      more: workloads().map((one, i) => ({ workload: one.name, replicas: i % 2 ? i * 1000 : null })),
    };
  }));
  await page.route(`${api}/usage*`, json(() => {
    const values = (size, gap) => Array.from({ length: 240 }, (_, i) => (gap && i > 90 && i < 110 ? null : size * (0.6 + 0.3 * Math.sin(i / 20))));
    const points = (size) => ({ capacity: values(size, true).map((value) => value && size), used: values(size, true), unknown: values(0, true) });
    const whole = (size) => ({ capacity: size, used: size * 0.6, usedP95: size * 0.88, unknown: size * 0.01 });
    const share = (cause, ratio, workload = null) => ({ cause, workload, rule: null, cpuRatio: ratio, memoryRatio: ratio / 2 });
    return {
      apiVersion: 'trimtab/v1', fromMs: Date.now() - 86_400_000, toMs: Date.now(), coveredMs: 79_200_000, stepMs: 360_000,
      cpu: whole(count * 16), memory: whole(count * 64 * 2 ** 30), cpuPoints: points(count * 16), memoryPoints: points(count * 64 * 2 ** 30),
      idle: [share('no_demand', 0.25), share('over_sized', 0.1, HOSTILE), share(LONG, 0.04)],
    };
  }));
  await page.route(`${api}/prices`, json(() => ({
    apiVersion: 'trimtab/v1',
    table: { name: 'default', revision: 1, appliedMs: Date.now() - 3_600_000, currency: HOSTILE.slice(0, 16), perCoreHour: 0.0316, perGibHour: 0.0042, document: {} },
  })));
  await page.route(`${api}/what-if`, (route) => route.fulfill({ json: whatIf(route.request().postDataJSON().workloads ?? []) }));
  await page.route(`${api}/tasks*`, json((url) => ({ items: url.searchParams.get('state') === 'ended' ? ended(Date.now()) : tasks(url.searchParams.get('node')) })));
  await page.route(`${api}/history*`, json((url) => ({
    unit: 'cores', stepMs: 60_000, fromMs: Date.now() - 3_600_000,
    values: Array.from({ length: 60 }, (_, i) => (i > 20 && i < 25 ? null : 1 + Math.sin(i / 6 + Number(url.searchParams.get('cgroup'))))),
  })));
}
