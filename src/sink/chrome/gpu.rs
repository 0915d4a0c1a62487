//! Devices as processes of the trace, and their streams as threads.
//!
//! A device has a process id beyond those that systems give out. A stream has its number as thread id, but for number 0,
//! which viewers take for the main thread, and for a number that another context of the device has as well: those get an
//! id of their own and say in their name whose they are.
//!
//! Viewers drop what overlaps on a thread. Work of one stream does overlap: nodes of a graph that do not depend on each
//! other, kernels that the next one does not wait for, ranges around all of it. So a stream gets one more lane whenever
//! its work finds no room on those it has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use crate::model::{GpuKind, GpuQueue, GpuWork};
use crate::sink::trace_events::json;

/// The process id of device 0. Linux gives out 4,194,304 at most, other systems count up from small numbers.
const FIRST_PID: u64 = 1_000_000_000;

/// Thread ids of lanes that cannot have their stream's number begin here.
const OWN_TIDS: u64 = 1_000_000;

/// How many pieces of work of a lane are remembered, to see whether the next one overlaps: more than arrive out of order.
const REMEMBERED: usize = 128;

/// How many streams of a device are remembered. Programs have far fewer; those that make a stream for each request get
/// new lanes instead of growing.
const MAX_STREAMS: usize = 4_096;

/// All devices seen.
pub(super) struct Devices {
    first_pid: u64,
    known: BTreeMap<u32, Device>,
}

impl Devices {
    /// `pid` is that of the program.
    pub(super) fn new(pid: u64) -> Devices {
        let taken = pid >= FIRST_PID;
        Devices {
            first_pid: if taken { 1 } else { FIRST_PID },
            known: BTreeMap::new(),
        }
    }

    /// Returns the ids of a lane on which `work` has room, as `,"pid":1,"tid":2`; introduces it where it is new.
    pub(super) fn lane(&mut self, out: &mut Vec<u8>, work: &GpuWork) -> Vec<u8> {
        let ordinal = work.queue.device;
        let pid = self.first_pid + u64::from(ordinal);
        let device = self.known.entry(ordinal).or_insert_with(|| {
            process_name(out, pid, ordinal, None);
            out.extend_from_slice(b",{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":");
            json::unsigned(out, pid);
            out.extend_from_slice(b",\"tid\":");
            json::unsigned(out, pid);
            out.extend_from_slice(b",\"args\":{\"sort_index\":");
            // Behind the program, which has no place of its own and therefore 0.
            json::unsigned(out, u64::from(ordinal) + 1);
            out.extend_from_slice(b"}}\n");
            Device::default()
        });
        let mut ids = b",\"pid\":".to_vec();
        json::unsigned(&mut ids, pid);
        ids.extend_from_slice(b",\"tid\":");
        device.lane(out, &mut ids, work);
        ids
    }

    /// Appends the name of a device that did something.
    pub(super) fn name(&self, out: &mut Vec<u8>, ordinal: u32, name: &str) {
        if self.known.contains_key(&ordinal) {
            let pid = self.first_pid + u64::from(ordinal);
            process_name(out, pid, ordinal, Some(name));
        }
    }
}

/// What runs on a stream by turns.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Track {
    context: u32,
    stream: u32,
    /// Ranges have lanes of their own, because they lie around the work.
    ranges: bool,
}

#[derive(Default)]
struct Device {
    tracks: HashMap<Track, Vec<Lane>>,
    first_context: Option<u32>,
    taken: HashSet<u64>,
    own_tids: u64,
}

impl Device {
    /// Finds or makes a lane and completes `ids` by its thread id.
    fn lane(&mut self, out: &mut Vec<u8>, ids: &mut Vec<u8>, work: &GpuWork) {
        let GpuQueue {
            context, stream, ..
        } = work.queue;
        let track = Track {
            context,
            stream,
            ranges: matches!(work.kind, GpuKind::Range { .. }),
        };
        if self.tracks.len() >= MAX_STREAMS && !self.tracks.contains_key(&track) {
            self.tracks.clear();
        }
        let of_first_context = *self.first_context.get_or_insert(context) == context;
        let lanes = self.tracks.entry(track).or_default();
        if let Some(lane) = lanes.iter_mut().find_map(|lane| lane.take(work)) {
            json::unsigned(ids, lane);
            return;
        }
        let number = u64::from(stream);
        let keeps_number = lanes.is_empty()
            && !track.ranges
            && (1..OWN_TIDS).contains(&number)
            && self.taken.insert(number);
        let tid = if keeps_number {
            number
        } else {
            self.own_tids += 1;
            OWN_TIDS + self.own_tids - 1
        };
        json::unsigned(ids, tid);
        let mut name = format!("stream {stream}");
        if !of_first_context {
            name.push_str(&format!(" of context {context}"));
        }
        if track.ranges {
            name.push_str(" ranges");
        }
        if !lanes.is_empty() {
            name.push_str(&format!(" ({})", lanes.len() + 1));
        }
        // Lanes of one stream stand together.
        let place = number * 16 + u64::from(track.ranges) * 8 + (lanes.len() as u64).min(7);
        introduce(out, ids, &name, place);
        let mut lane = Lane::new(tid);
        lane.take(work);
        lanes.push(lane);
    }
}

/// A thread of the trace, on which nothing overlaps.
struct Lane {
    tid: u64,
    /// Start and end of what came last, by start.
    newest: BTreeMap<u64, u64>,
    /// Before this, what is taken is no longer known.
    forgotten: u64,
}

impl Lane {
    fn new(tid: u64) -> Lane {
        Lane {
            tid,
            newest: BTreeMap::new(),
            forgotten: 0,
        }
    }

    /// Puts `work` on the lane and returns its thread id, unless the work overlaps with what is there.
    fn take(&mut self, work: &GpuWork) -> Option<u64> {
        let (start, end) = (work.start.0, work.end.0.max(work.start.0));
        if start < self.forgotten {
            return None;
        }
        if let Some((_, &earlier)) = self.newest.range(..=start).next_back()
            && earlier > start
        {
            return None;
        }
        let after = (Bound::Excluded(start), Bound::Unbounded);
        if let Some((&later, _)) = self.newest.range(after).next()
            && later < end
        {
            return None;
        }
        self.newest.insert(start, end);
        if self.newest.len() > REMEMBERED
            && let Some((_, end)) = self.newest.pop_first()
        {
            self.forgotten = end;
        }
        Some(self.tid)
    }
}

fn process_name(out: &mut Vec<u8>, pid: u64, ordinal: u32, name: Option<&str>) {
    out.extend_from_slice(b",{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":");
    json::unsigned(out, pid);
    out.extend_from_slice(b",\"tid\":");
    json::unsigned(out, pid);
    out.extend_from_slice(b",\"args\":{\"name\":\"GPU ");
    json::unsigned(out, u64::from(ordinal));
    if let Some(name) = name {
        out.push(b' ');
        json::escaped(out, name);
    }
    out.extend_from_slice(b"\"}}\n");
}

fn introduce(out: &mut Vec<u8>, ids: &[u8], name: &str, place: u64) {
    out.extend_from_slice(b",{\"ph\":\"M\",\"name\":\"thread_name\"");
    out.extend_from_slice(ids);
    out.extend_from_slice(b",\"args\":{\"name\":");
    json::string(out, name);
    out.extend_from_slice(b"}}\n,{\"ph\":\"M\",\"name\":\"thread_sort_index\"");
    out.extend_from_slice(ids);
    out.extend_from_slice(b",\"args\":{\"sort_index\":");
    json::unsigned(out, place);
    out.extend_from_slice(b"}}\n");
}
