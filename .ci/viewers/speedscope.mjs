// speedscope: opens the trace, then exports it again, because the export says what it understood.

import fs from 'node:fs';
import path from 'node:path';
import { home, serve, withPage } from './browser.mjs';

/** Opens `file` and returns what speedscope would draw, and what it complained about. */
export async function speedscope(file) {
  const app = path.join(home, 'node_modules/speedscope/dist/release');
  const server = await serve(app, { '/trace.json': path.resolve(file) });
  try {
    return await withPage(async (page, errors) => {
      const dialogs = [];
      const warnings = [];
      page.on('dialog', (dialog) => {
        dialogs.push(dialog.message());
        return dialog.dismiss();
      });
      page.on('console', (message) => {
        // Software rendering is slow and says so; that is about this browser, not about the trace.
        const graphics = /GL Driver|WebGL/.test(message.text());
        if (['warning', 'error'].includes(message.type()) && !graphics) warnings.push(message.text());
      });
      const source = encodeURIComponent(`${server.address}/trace.json`);
      await page.goto(`${server.address}/#profileURL=${source}&title=trace`);
      const opened = await page
        .waitForFunction(() => document.body.innerText.includes('Export'), null, { timeout: 60_000 })
        .then(() => true, () => false);
      const profiles = opened ? await exported(page) : [];
      return { profiles, dialogs, warnings, errors };
    });
  } finally {
    server.stop();
  }
}

async function exported(page) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByText('Export').click()]);
  const { profiles } = JSON.parse(fs.readFileSync(await download.path(), 'utf8'));
  return profiles.map((profile) => ({
    name: profile.name,
    opens: profile.events.filter((event) => event.type === 'O').length,
  }));
}
