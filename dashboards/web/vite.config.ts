import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/** Writes a packed copy beside each text file, for the server to send as it is. */
function packed(): Plugin {
  return {
    name: 'packed',
    apply: 'build',
    closeBundle() {
      for (const entry of readdirSync('dist', { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        if (entry.isFile() && /\.(html|js|css|svg|txt)$/.test(entry.name)) {
          writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
        }
      }
    },
  };
}

export default defineConfig({
  plugins: [svelte(), packed()],
  build: {
    // `cargo xtask web` empties the folder: its .gitignore stays, so that it is in every checkout.
    emptyOutDir: false,
    target: 'es2022',
    // The first that know light-dark().
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    modulePreload: { polyfill: false },
    // A data: address would need a hole in the policy that the server sends.
    assetsInlineLimit: 0,
    // Of what is in the files that are sent.
    license: { fileName: 'licenses.txt' },
  },
  server: { proxy: { '/api': process.env['TRIMTAB_URL'] ?? 'http://127.0.0.1:7780' } },
  test: { include: ['src/**/*.test.ts'] },
} as Parameters<typeof defineConfig>[0]);
