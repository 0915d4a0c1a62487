//! What the outputs share that stream trace events: one JSON event per line into a file that loads wherever it is cut.

pub(in crate::sink) mod calls;
pub(in crate::sink) mod json;
mod lines;
pub(in crate::sink) mod work;

#[cfg(test)]
pub(in crate::sink) use lines::Rewrite;
pub(in crate::sink) use lines::{Destination, Lines};

use std::collections::{HashSet, VecDeque};

use crate::model::{GpuWork, Thread};

/// Threads whose system id is not known get ids from here on, above what a system usually gives out. Never 0, which
/// Perfetto takes for the main thread.
const UNKNOWN_TID_BASE: u64 = 1_000_000;

/// Returns the number under which a thread appears.
pub(in crate::sink) fn tid(thread: &Thread) -> u64 {
    match thread.os_id {
        Some(id) if id != 0 => u64::from(id),
        _ => UNKNOWN_TID_BASE + u64::from(thread.index),
    }
}

/// How many calls are remembered as having their arrow: more than a device's queues hold.
const REMEMBERED: usize = 8_192;

/// Sees to it that at most one arrow leaves from a call. Viewers match both ends of an arrow by its number, so that of
/// the many nodes of a graph only the first to arrive gets one.
#[derive(Default)]
pub(in crate::sink) struct Arrows {
    newest: VecDeque<u32>,
    with_arrow: HashSet<u32>,
}

impl Arrows {
    /// Appends both ends of the arrow from a call to its work, on one line; `from` and `to` are the lanes as
    /// `,"pid":1,"tid":2`.
    ///
    /// Both bars need a length: an arrow at a bar without one is taken for that of the bar around it.
    pub(in crate::sink) fn append(
        &mut self,
        out: &mut Vec<u8>,
        done: &GpuWork,
        from: impl FnOnce(&mut Vec<u8>),
        to: &[u8],
    ) {
        let Some(call) = &done.call else { return };
        if call.end.is_none_or(|end| end <= call.start) || done.end <= done.start {
            return;
        }
        if !self.with_arrow.insert(call.correlation) {
            return;
        }
        self.newest.push_back(call.correlation);
        if self.newest.len() > REMEMBERED
            && let Some(oldest) = self.newest.pop_front()
        {
            self.with_arrow.remove(&oldest);
        }
        let end = |out: &mut Vec<u8>, phase: &[u8], ts: u64| {
            out.extend_from_slice(phase);
            out.extend_from_slice(b",\"cat\":\"ac2g\",\"name\":\"ac2g\",\"id\":");
            json::unsigned(out, u64::from(call.correlation));
            out.extend_from_slice(b",\"ts\":");
            json::micros(out, ts);
        };
        end(out, b",{\"ph\":\"s\"", call.start.0);
        from(out);
        out.push(b'}');
        end(out, b",{\"ph\":\"f\",\"bp\":\"e\"", done.start.0);
        out.extend_from_slice(to);
        out.extend_from_slice(b"}\n");
    }
}
