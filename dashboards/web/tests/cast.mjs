// A terminal in which real commands run, recorded as an asciicast and drawn as an animated picture.

import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import xterm from '@xterm/headless';

const COLUMNS = 110;
const ROWS = 32;
/** Time for a reader, s: of what was typed, of what was answered, of the end. */
const [TYPED, READ, END] = [0.4, 3.5, 4];
/** Characters that are typed at once, and how long they take, s. */
const [AT_ONCE, KEYS] = [3, 0.12];
const PROMPT = '\x1b[32m$\x1b[0m ';

/** Runs the steps against an autoscaler: `{ cast, svg }`. A step says a remark and runs a command, or shows a screen for some seconds, in which keys are pressed. */
export async function record(programs, url, steps) {
  const environment = { ...process.env, TRIMTAB_URL: url, PATH: `${programs}:${process.env.PATH}`, TERM: 'xterm-256color' };
  const events = [];
  let now = 0.5;
  const put = (text, after = 0) => {
    events.push([now, text]);
    now += after;
  };
  const type = (text) => {
    put(PROMPT, TYPED);
    for (let i = 0; i < text.length; i += AT_ONCE) put(text.slice(i, i + AT_ONCE), KEYS);
    put('', TYPED);
    put('\r\n');
  };
  for (const { say, run, screen, seconds, keys = '' } of steps) {
    // A new page: what a reader has read need not move.
    put('\x1b[2J\x1b[H');
    if (say) put(`\x1b[90m# ${say}\x1b[0m\r\n`, TYPED);
    type(`trimtab ${run ?? screen}`);
    if (run) {
      const { stdout } = await promisify(execFile)(join(programs, 'trimtab'), run.split(' '), { env: environment });
      put(fitting(stdout.trimEnd().split('\n')).join('\r\n'), READ);
    } else {
      for (const [after, text] of await shown(`stty cols ${COLUMNS} rows ${ROWS}; exec trimtab ${screen}`, seconds, keys, environment)) events.push([now + after, text]);
      now += seconds;
    }
  }
  put('', END);
  const header = { version: 2, width: COLUMNS, height: ROWS, title: 'Trimtab', env: { TERM: 'xterm-256color' } };
  const cast = [header, ...events.map(([at, text]) => [Number(at.toFixed(3)), 'o', text])].map((one) => `${JSON.stringify(one)}\n`).join('');
  return { cast, svg: await drawn(events, now) };
}

/** The first lines that fit on the screen below a prompt, long ones as the terminal breaks them. */
function fitting(lines) {
  let left = ROWS - 3;
  return lines.filter((line) => (left -= Math.max(1, Math.ceil(line.length / COLUMNS))) >= 0);
}

/** What a program writes on a terminal within some seconds, with keys pressed at even times: pieces with the time of each, s. */
async function shown(command, seconds, keys, env) {
  const child = spawn('script', ['-qfec', command, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] });
  const began = Date.now();
  const pieces = [];
  child.stdout.setEncoding('utf8').on('data', (text) => pieces.push([(Date.now() - began) / 1000, text]));
  const part = (seconds * 1000) / (keys.length + 1);
  for (const key of keys) {
    await sleep(part);
    child.stdin.write(key);
  }
  await sleep(part);
  const kept = pieces.slice();
  const ended = new Promise((done) => child.once('exit', done));
  child.stdin.end('q');
  await ended;
  return kept;
}

const WIDE = 8.4;
const HIGH = 18;
const EDGE = 14;
const TEXT = '#d8dee6';
const COLOURS = ['#2b3340', '#e0655f', '#6cc07a', '#d9b45b', '#6aa5e8', '#b98ce0', '#5dbfc4', '#d8dee6', '#8a94a3', '#f08c86', '#93d89e', '#edcf86', '#94c0f2', '#d0b0ee', '#8ad8dc', '#ffffff'];
const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** A film of the screen: frames beside each other, moved past the window by steps. Rows that come again are drawn once. */
async function drawn(events, length) {
  const terminal = new xterm.Terminal({ cols: COLUMNS, rows: ROWS, allowProposedApi: true });
  const rows = new Map();
  const frames = [];
  for (const [i, [at, text]] of events.entries()) {
    await new Promise((done) => terminal.write(text, done));
    if (events[i + 1]?.[0] - at < KEYS / 2) continue;
    const screen = Array.from({ length: ROWS }, (_, y) => line(terminal.buffer.active.getLine(terminal.buffer.active.viewportY + y)));
    if (frames.at(-1)?.screen.join('\n') !== screen.join('\n')) frames.push({ at, screen });
    for (const one of screen) if (one !== '' && !rows.has(one)) rows.set(one, `r${rows.size}`);
  }
  const [width, height] = [COLUMNS * WIDE + 2 * EDGE, ROWS * HIGH + 2 * EDGE];
  const stops = frames.map(({ at }, i) => `${((at / length) * 100).toFixed(3)}%{transform:translateX(${-i * width}px)}`);
  const symbols = [...rows].map(([text, id]) => `<g id="${id}">${text}</g>`);
  const film = frames.map(({ screen }, i) => {
    const used = screen.map((one, y) => (one === '' ? '' : `<use href="#${rows.get(one)}" x="${i * width + EDGE}" y="${EDGE + y * HIGH}"/>`));
    return `<g>${used.join('')}</g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="A recorded terminal: trimtab's commands and their answers">
<style>text{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre}.film{animation:film ${length.toFixed(1)}s step-end infinite}@keyframes film{0%{transform:translateX(0)}${stops.join('')}}@media(prefers-reduced-motion:reduce){.film{animation:none;transform:translateX(${-(frames.length - 1) * width}px)}}</style>
<rect width="100%" height="100%" rx="8" fill="#161b22"/><defs>${symbols.join('\n')}</defs>
<g class="film" fill="${TEXT}">${film.join('\n')}</g></svg>
`;
}

/** One row: pieces of the same look, each as wide as its cells, whatever the font. */
function line(row) {
  const pieces = [];
  const cell = row.getCell(0);
  for (let x = 0; x < COLUMNS; x += 1) {
    row.getCell(x, cell);
    const [front, back] = [
      cell.isFgPalette() ? COLOURS[cell.getFgColor() % 16] : TEXT,
      cell.isBgPalette() ? COLOURS[cell.getBgColor() % 16] : '',
    ];
    const inverse = cell.isInverse() !== 0;
    const look = { fill: inverse ? back || '#161b22' : front, back: inverse ? front : back, bold: cell.isBold() !== 0, dim: cell.isDim() !== 0 };
    const key = JSON.stringify(look);
    const last = pieces.at(-1);
    if (last?.key === key) last.text += cell.getChars() || ' ';
    else pieces.push({ key, look, x, text: cell.getChars() || ' ' });
  }
  return pieces.map(piece).join('');
}

function piece({ look, x, text }) {
  const wide = [...text].length * WIDE;
  const behind = look.back ? `<rect x="${(x * WIDE).toFixed(1)}" width="${wide.toFixed(1)}" height="${HIGH}" fill="${look.back}"/>` : '';
  const shown = text.trimEnd();
  if (shown === '') return behind;
  const style = `${look.fill === TEXT ? '' : ` fill="${look.fill}"`}${look.bold ? ' font-weight="600"' : ''}${look.dim ? ' opacity=".65"' : ''}`;
  return `${behind}<text x="${(x * WIDE).toFixed(1)}" y="13.5" textLength="${([...shown].length * WIDE).toFixed(1)}" lengthAdjust="spacingAndGlyphs" xml:space="preserve"${style}>${escaped(shown)}</text>`;
}
