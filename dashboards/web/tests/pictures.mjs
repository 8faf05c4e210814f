// The pictures of the documentation, taken of a running demo: `cargo xtask up --pictures DIR` starts this.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { record } from './cast.mjs';
import { walk } from './guide.mjs';

const { TRIMTAB_DASHBOARD, TRIMTAB_PROGRAMS, PICTURES, CHROMIUM } = process.env;
const dashboard = new URL(TRIMTAB_DASHBOARD);
const view = { viewport: { width: 1280, height: 900 }, colorScheme: 'light' };
/** Around a part of a page, px. */
const MARGIN = 12;
/** Until charts that begin with the page show something, ms. */
const FILLED = 30_000;

mkdirSync(PICTURES, { recursive: true });
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
try {
  const page = await (await browser.newContext(view)).newPage();
  page.setDefaultTimeout(60_000);
  const { items } = await (await fetch(new URL('/api/v1/nodes', dashboard))).json();
  await walk({
    page,
    address: (path) => new URL(path + dashboard.hash, dashboard).href,
    workload: 'web',
    node: items[0].name,
    change: { 'Queue delay, p95': '150ms', 'Replicas at least': '3' },
    picture: async (name, what) => {
      if (name === 'fleet') await page.locator('tbody tr.sum').first().waitFor();
      if (name === 'workload') await sleep(FILLED);
      const path = join(PICTURES, `${name}.png`);
      if (what === page) return page.screenshot({ path });
      const { x, y, width, height } = await what.boundingBox();
      const [left, top] = [Math.max(0, x - MARGIN), Math.max(0, y + (await page.evaluate(() => scrollY)) - MARGIN)];
      return page.screenshot({ path, fullPage: true, clip: { x: left, y: top, width: width + 2 * MARGIN, height: height + 2 * MARGIN } });
    },
  });
} finally {
  await browser.close();
}

const { cast, svg } = await record(TRIMTAB_PROGRAMS, dashboard.origin, [
  { say: 'What is there, and how much of it is used?', run: 'get nodes' },
  { run: 'get workloads' },
  { say: 'Why does it have as many replicas as it has?', run: 'explain workload web' },
  { say: 'What would another target have done, for what was recorded?', run: 'what-if web --target queue=20ms' },
  { say: 'Nothing is changed by asking. Live, with the dearest tasks:', screen: 'top', seconds: 9, keys: '23' },
]);
writeFileSync(join(PICTURES, 'terminal.cast'), cast);
writeFileSync(join(PICTURES, 'terminal.svg'), svg);
