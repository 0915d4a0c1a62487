// Opens traces in Perfetto, Catapult and speedscope and compares what they show with what the files hold.
//
//     node check.mjs [--screenshots FOLDER] TRACE.json...

import path from 'node:path';
import { parseArgs } from 'node:util';
import { catapult } from './catapult.mjs';
import { perfetto } from './perfetto.mjs';
import { speedscope } from './speedscope.mjs';
import { readTrace } from './trace.mjs';

/** Prints a line for each viewer and returns how many expectations failed. */
async function check(file) {
  const held = readTrace(file);
  const screenshot = options.screenshots && path.join(options.screenshots, `${path.basename(file, '.json')}.png`);
  const viewers = [
    ['file', () => expectFile(held)],
    ['perfetto', async () => expectPerfetto(await perfetto(file, screenshot), held)],
    ['catapult', async () => expectCatapult(await catapult(file), held)],
    ['speedscope', async () => expectSpeedscope(await speedscope(file), held)],
  ];
  let failed = 0;
  for (const [viewer, run] of viewers) {
    const problems = await run().catch((error) => [`stopped: ${error.message}`]);
    console.log(`${problems.length === 0 ? 'ok  ' : 'FAIL'} ${viewer.padEnd(10)} ${file}`);
    for (const problem of problems) console.log(`       ${problem}`);
    failed += problems.length;
  }
  return failed;
}

/** Collects what does not hold. */
class Problems extends Array {
  equal(what, found, expected) {
    const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
    if (left !== right) this.push(`${what}: ${left} instead of ${right}`);
  }
  between(what, found, least, most) {
    if (!(found >= least && found <= most)) this.push(`${what}: ${found}, not in ${least}..=${most}`);
  }
  none(what, list) {
    if (list.length > 0) this.push(`${list.length} ${what}: ${JSON.stringify(list.slice(0, 5))}`);
  }
  some(what, count) {
    if (!(count > 0)) this.push(`${what}: none`);
  }
}

async function expectFile(held) {
  const problems = new Problems();
  problems.some('spans', held.bars + held.lanes);
  problems.equal('ends of lanes', held.laneEnds, held.lanes);
  problems.none('threads without a name', [...held.threadsWithBars].filter((lane) => !held.threads.get(lane)));
  problems.equal('thread 0', held.threadIds.has(0), false);
  problems.equal('starts of arrows', held.flowStarts, held.flows);
  return problems;
}

function expectPerfetto(shown, held) {
  const problems = new Problems();
  problems.none('page errors', shown.errors);
  problems.equal('loaded', shown.loaded, true);
  problems.equal('crashed', shown.crashed, false);
  if (!shown.loaded) return problems;
  problems.equal('slices', shown.slices, held.bars + held.lanes + held.instants);
  problems.equal('lanes of the process', shown.lanes, held.lanes);
  problems.equal('slices without an end', shown.unfinished, 0);
  problems.equal('import errors', shown.importErrors, 0);
  problems.none('errors and losses', shown.complaints);
  problems.equal('counter values', shown.counters, held.counters);
  problems.equal('counters', shown.counterNames, [...held.counterNames].sort());
  problems.none('threads without a name', shown.threads.filter((thread) => thread.name !== held.threads.get(`${thread.pid}:${thread.tid}`)));
  problems.equal('threads with slices', shown.threads.length >= held.threadsWithBars.size, true);
  problems.none('processes without their name', shown.processes.filter((process) => process.name !== held.processes.get(process.pid)));
  problems.equal('arrows', shown.flows, held.flows);
  problems.none('span names that are missing', [...held.spanNames].filter((name) => !shown.names.includes(name)));
  return problems;
}

function expectCatapult(shown, held) {
  const problems = new Problems();
  problems.none('page errors', shown.errors);
  problems.equal('failure', shown.failure, undefined);
  if (shown.failure) return problems;
  problems.none('warnings', shown.warnings);
  problems.equal('slices', shown.slices + shown.instants, held.bars + held.instants);
  problems.equal('lanes', shown.lanes, held.lanes);
  problems.equal('counter values', shown.counters, held.counters);
  problems.equal('arrows', shown.flows, held.flows);
  problems.none('threads without a name', shown.unnamed);
  return problems;
}

function expectSpeedscope(shown, held) {
  const problems = new Problems();
  problems.none('page errors', shown.errors);
  problems.none('dialogs', shown.dialogs);
  problems.none('warnings', shown.warnings);
  const opens = shown.profiles.reduce((sum, profile) => sum + profile.opens, 0);
  // It draws no bar without length, and draws two equal bars that touch as one.
  const drawable = held.bars - held.emptyBars;
  problems.between('bars', opens, drawable - held.touchingBars, drawable);
  problems.some('bars', opens);
  problems.equal('threads', shown.profiles.length, held.threadsWithBars.size);
  return problems;
}

const { values: options, positionals: files } = parseArgs({
  allowPositionals: true,
  options: { screenshots: { type: 'string' } },
});
if (files.length === 0) {
  console.error('usage: check.mjs [--screenshots FOLDER] TRACE.json...');
  process.exit(2);
}

let failures = 0;
for (const file of files) failures += await check(file);
process.exit(failures === 0 ? 0 : 1);
