// How fast the first page is with a large fleet: `cargo xtask bench face` runs it against a real autoscaler with simulated agents.
//
// Prints JSON: until the page is useful (its state is told and every node is painted), and a repaint of the heat map from its first
// drawing call until its pixels can be read. Medians; TRIMTAB_URL, NODES and CHROMIUM say what.

import { chromium } from 'playwright-core';

const { TRIMTAB_URL: url, CHROMIUM: executablePath } = process.env;
const nodes = Number(process.env.NODES);
const LOADS = 7;
const REPAINTS = 20;
const PATIENCE = 60_000;

/** Notes each burst of drawing calls that paints at least as many cells as there are nodes. */
function watch(cells) {
  const seen = { repaints: [], ready: undefined };
  globalThis.bench = seen;
  let burst;
  for (const name of ['fillRect', 'scale', 'clearRect']) {
    const original = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...rest) {
      if (!burst) {
        burst = { from: performance.now(), cells: 0 };
        const context = this;
        queueMicrotask(() => {
          // Reading a pixel waits until all that was drawn is there.
          context.getImageData(0, 0, 1, 1);
          const now = performance.now();
          if (burst.cells >= cells) {
            seen.repaints.push(now - burst.from);
            // In the frame after: then the browser has it, too.
            requestAnimationFrame(() => requestAnimationFrame(() => (seen.painted ??= performance.now())));
          }
          burst = undefined;
        });
      }
      if (name === 'fillRect') burst.cells += 1;
      return original.apply(this, rest);
    };
  }
}

const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)];
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
try {
  const ready = [];
  let repaints = [];
  for (let load = 0; load < LOADS; load += 1) {
    // A context of its own: nothing is in its cache.
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    const page = await context.newPage();
    await page.addInitScript(watch, nodes);
    await page.goto(url, { waitUntil: 'commit' });
    const useful = await page.waitForFunction(
      () => {
        const state = document.querySelector('[aria-label="State"]')?.textContent ?? '';
        return globalThis.bench.painted !== undefined && /Acting|Recommending|Measuring|Waiting|Paused/.test(state) && performance.now();
      },
      undefined,
      { polling: 'raf', timeout: PATIENCE },
    );
    ready.push(await useful.jsonValue());
    if (load === LOADS - 1) {
      const measure = page.locator('label', { hasText: 'Measure' }).locator('select').first();
      for (let i = 0; i < REPAINTS; i += 1) {
        const before = await page.evaluate(() => globalThis.bench.repaints.length);
        await measure.selectOption({ index: (i + 1) % 2 });
        await page.waitForFunction((count) => globalThis.bench.repaints.length > count, before, { timeout: PATIENCE });
      }
      repaints = await page.evaluate(() => globalThis.bench.repaints);
    }
    await context.close();
  }
  console.log(JSON.stringify({ ready, repaints, fleet_ready_ms: median(ready), heatmap_repaint_ms: median(repaints) }));
} finally {
  await browser.close();
}
