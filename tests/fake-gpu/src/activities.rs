//! Activity records, byte for byte as CUPTI 13.0 writes them.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::clock;
use crate::driver::{context_of, context_uid};
use crate::knobs::{self, Knob};
use crate::launch::{Function, Shape};
use crate::memory::Kind;
use crate::state::{State, lock};
use crate::streams::id_of;

pub const MEMCPY: u32 = 1;
pub const MEMSET: u32 = 2;
pub const KERNEL_SERIAL: u32 = 3;
pub const KERNEL: u32 = 10;
pub const OVERHEAD: u32 = 17;
pub const MEMCPY_PEER: u32 = 22;
pub const SYNCHRONIZATION: u32 = 38;
pub const GRAPH_TRACE: u32 = 51;

pub const EVENT_SYNCHRONIZE: u32 = 1;
pub const STREAM_WAIT_EVENT: u32 = 2;
pub const STREAM_SYNCHRONIZE: u32 = 3;
pub const CONTEXT_SYNCHRONIZE: u32 = 4;

const BUFFER_FLUSH: u32 = 1 << 16;
/// In place of a stream or an event, where there is none.
const NONE: u32 = u32::MAX;
pub const LARGEST: usize = 216;

/// The bytes of a record of this kind; None for a kind that is not simulated.
pub fn size_of(kind: u32) -> Option<usize> {
    Some(match kind {
        KERNEL | KERNEL_SERIAL => LARGEST,
        MEMCPY | MEMCPY_PEER => 96,
        MEMSET => 88,
        OVERHEAD | SYNCHRONIZATION | GRAPH_TRACE => 56,
        _ => return None,
    })
}

/// A kernel's place in a graph.
pub struct Node {
    pub graph: u32,
    pub node: u64,
}

pub struct Record {
    bytes: [u8; LARGEST],
    length: usize,
    start_at: usize,
    end_at: &'static [usize],
    /// Host times.
    started: u64,
    pub finished: u64,
    /// Flushes since then.
    pub flushes: i64,
}

type Times = (u64, u64);

impl Record {
    #[inline(always)]
    fn new(
        kind: u32,
        start_at: usize,
        end_at: &'static [usize],
        times: Times,
        on_device: bool,
    ) -> Record {
        let mut record = Record {
            bytes: [0; LARGEST],
            length: size_of(kind).unwrap_or(LARGEST),
            start_at,
            end_at,
            started: times.0,
            finished: times.1,
            flushes: 0,
        };
        let seen = |host| {
            if on_device {
                clock::of_record(host)
            } else {
                host
            }
        };
        record.put(0, kind);
        record.put64(start_at, seen(times.0));
        for at in end_at {
            record.put64(*at, seen(times.1));
        }
        record
    }

    #[inline(always)]
    pub fn kernel(
        function: &'static Function,
        shape: Shape,
        times: Times,
        correlation: u32,
        device: usize,
        stream: usize,
        node: Option<Node>,
    ) -> Record {
        static NEXT_GRID: AtomicI64 = AtomicI64::new(1);
        let mut record = Record::new(KERNEL, 16, &[24, 32], times, true);
        record.bytes[6] = 32;
        record.place(40, device, stream);
        for axis in 0..3 {
            record.put(52 + 4 * axis, shape.grid[axis]);
            record.put(64 + 4 * axis, shape.block[axis]);
        }
        record.put(80, shape.shared_bytes);
        record.put(92, correlation);
        record.put64(96, NEXT_GRID.fetch_add(1, Relaxed) as u64);
        record.put64(104, function.name.as_ptr() as u64);
        if let Some(node) = node {
            record.put64(144, node.node);
            record.put(156, node.graph);
        }
        record
    }

    pub fn memcpy(
        (from, to): (Kind, Kind),
        is_async: bool,
        bytes: usize,
        times: Times,
        correlation: u32,
        device: usize,
        stream: usize,
    ) -> Record {
        let mut record = Record::new(MEMCPY, 16, &[24], times, true);
        record.bytes[4] = match (from, to) {
            (Kind::Device, Kind::Device) => 8,
            (_, Kind::Device) => 1,
            (Kind::Device, _) => 2,
            _ => 9,
        };
        record.bytes[5] = from as u8;
        record.bytes[6] = to as u8;
        record.bytes[7] = u8::from(is_async);
        record.put64(8, bytes as u64);
        record.place(32, device, stream);
        record.put(44, correlation);
        record
    }

    pub fn memcpy_peer(
        (from, to): (usize, usize),
        bytes: usize,
        times: Times,
        correlation: u32,
        device: usize,
        stream: usize,
    ) -> Record {
        let mut record = Record::new(MEMCPY_PEER, 16, &[24], times, true);
        record.bytes[4] = 10;
        record.bytes[5] = Kind::Device as u8;
        record.bytes[6] = Kind::Device as u8;
        record.bytes[7] = 1;
        record.put64(8, bytes as u64);
        record.place(32, device, stream);
        record.put(44, from as u32);
        record.put(48, context_uid(context_of(from)));
        record.put(52, to as u32);
        record.put(56, context_uid(context_of(to)));
        record.put(60, correlation);
        record
    }

    pub fn memset(
        value: u32,
        bytes: usize,
        times: Times,
        correlation: u32,
        device: usize,
        stream: usize,
    ) -> Record {
        let mut record = Record::new(MEMSET, 16, &[24], times, true);
        record.put(4, value);
        record.put64(8, bytes as u64);
        record.place(32, device, stream);
        record.put(44, correlation);
        record
    }

    /// Of a wait, which the host's clock saw.
    pub fn synchronization(
        what: u32,
        times: Times,
        correlation: u32,
        device: usize,
        stream: Option<usize>,
        event: Option<u32>,
    ) -> Record {
        let mut record = Record::new(SYNCHRONIZATION, 8, &[16], times, false);
        record.put(4, what);
        record.put(24, correlation);
        record.put(28, context_uid(context_of(device)));
        record.put(32, stream.map_or(NONE, id_of));
        record.put(36, event.unwrap_or(NONE));
        record
    }

    pub fn graph(
        graph: u32,
        times: Times,
        correlation: u32,
        device: usize,
        stream: usize,
    ) -> Record {
        let mut record = Record::new(GRAPH_TRACE, 8, &[16], times, true);
        record.put(4, correlation);
        record.put(24, device as u32);
        record.put(28, graph);
        record.put(32, context_uid(context_of(device)));
        record.put(36, id_of(stream));
        record
    }

    pub fn overhead(times: Times) -> Record {
        let mut record = Record::new(OVERHEAD, 24, &[32], times, false);
        record.put(4, BUFFER_FLUSH);
        record
    }

    /// Device, context and stream, one after the other.
    #[inline(always)]
    fn place(&mut self, at: usize, device: usize, stream: usize) {
        self.put(at, device as u32);
        self.put(at + 4, context_uid(context_of(device)));
        self.put(at + 8, id_of(stream));
    }

    #[inline(always)]
    fn put(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    #[inline(always)]
    fn put64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Takes away what has not happened yet.
    pub fn as_of(&mut self, now: u64) {
        if self.finished > now {
            for at in self.end_at {
                self.put64(*at, 0);
            }
        }
        if self.started > now {
            self.put64(self.start_at, 0);
        }
    }
}

/// Work that a lost device has not finished never ends.
pub fn never_end(records: &mut [Record], now: u64) {
    for record in records.iter_mut().filter(|record| record.finished > now) {
        record.finished = u64::MAX;
    }
}

impl State {
    pub fn wants(&self, kind: u32) -> bool {
        self.kinds & (1 << kind) != 0
    }

    #[inline(always)]
    pub fn push(&mut self, mut record: Record) {
        if self.records.len() as i64 >= knobs::get(Knob::BUFFER_LIMIT) {
            self.dropped += 1;
            return;
        }
        if record.bytes[0] == KERNEL as u8 && !self.wants(KERNEL) {
            record.put(0, KERNEL_SERIAL);
        }
        self.records.push(record);
    }
}

/// Adds a record if its kind is enabled.
pub fn add(kind: u32, record: impl FnOnce() -> Record) {
    let mut state = lock();
    if state.wants(kind) {
        let record = record();
        state.push(record);
    }
}
