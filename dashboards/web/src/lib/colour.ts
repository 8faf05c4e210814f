// Colours of the style sheet, for what draws on a canvas.

export type Colour = [number, number, number];

/** A variable of the style sheet in the theme in force, as three numbers from 0 to 255. */
export function resolve(within: HTMLElement, variable: string): Colour {
  const probe = document.createElement('span');
  probe.style.color = `var(${variable})`;
  within.append(probe);
  const found = getComputedStyle(probe).color.match(/[\d.]+/g)?.map(Number) ?? [];
  probe.remove();
  return [found[0] ?? 0, found[1] ?? 0, found[2] ?? 0];
}

/** From `a` to `b`. */
export function mix(a: Colour, b: Colour, share: number): Colour {
  return [0, 1, 2].map((i) => (a[i] ?? 0) + ((b[i] ?? 0) - (a[i] ?? 0)) * share) as Colour;
}

export function css([r, g, b]: Colour): string {
  return `rgb(${Math.round(r)} ${Math.round(g)} ${Math.round(b)})`;
}

/** Black or white, whichever is easier to read on it (relative luminance as WCAG defines it). */
export function ink(on: Colour): string {
  const [r, g, b] = on.map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4)) as Colour;
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return luminance > 0.179 ? '#000' : '#fff';
}
