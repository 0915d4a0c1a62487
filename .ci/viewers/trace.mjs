// What a trace file holds, counted without a viewer.

import fs from 'node:fs';

/** Reads a trace: an object, an array, or an array that was cut after a line. Throws where it is none of these. */
export function readTrace(file) {
  const text = fs.readFileSync(file, 'utf8').trim();
  const closed = text.startsWith('[') && !text.endsWith(']') ? `${text}]` : text;
  const parsed = JSON.parse(closed);
  const events = Array.isArray(parsed) ? parsed : parsed.traceEvents;
  const withPhase = (...phases) => events.filter((event) => phases.includes(event.ph));
  const bars = withPhase('X');
  const instants = withPhase('i');
  const lanes = withPhase('b');
  return {
    bars: bars.length,
    emptyBars: bars.filter((event) => event.dur === 0).length,
    touchingBars: touching(bars),
    lanes: lanes.length,
    laneEnds: withPhase('e').length,
    instants: instants.length,
    counters: withPhase('C').length,
    counterNames: new Set(withPhase('C').map((event) => `${event.name} ${Object.keys(event.args)[0]}`)),
    threads: new Map(withPhase('M').filter((event) => event.name === 'thread_name').map((event) => [lane(event), event.args.name])),
    threadIds: new Set([...bars, ...withPhase('M')].map((event) => event.tid)),
    // A lane belongs to the process, but Catapult hangs it under the thread of its line.
    threadsWithBars: new Set(bars.map(lane)),
    flows: withPhase('f').length,
    flowStarts: withPhase('s').length,
    // Of two names of a process, the later one is the better one.
    processes: new Map(withPhase('M').filter((event) => event.name === 'process_name').map((event) => [event.pid, event.args.name])),
    spanNames: new Set([...bars, ...lanes].map((event) => event.name)),
  };
}

/** A stream of a device may have the number of a thread. */
function lane(event) {
  return `${event.pid}:${event.tid}`;
}

/** Counts bars that begin in the nanosecond in which one that looks the same ends on their thread. */
function touching(bars) {
  const look = (event, at) => JSON.stringify([lane(event), event.name, event.args, at]);
  const nanos = (micros) => Math.round(micros * 1000);
  const ends = new Set(bars.map((event) => look(event, nanos(event.ts) + nanos(event.dur))));
  return bars.filter((event) => event.dur > 0 && ends.has(look(event, nanos(event.ts)))).length;
}
