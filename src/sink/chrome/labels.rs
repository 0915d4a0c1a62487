//! The parts of a line that repeat, escaped once: a callsite's name and target, a thread's ids.

use std::collections::HashMap;

use crate::model::{Site, Thread};
use crate::sink::trace_events::{json, tid};

/// How many sites, and how many threads, are remembered. Programs have far fewer; those that do not (a thread for each
/// request) pay the formatting again instead of memory.
const REMEMBERED: usize = 65_536;

/// `,"cat":"TARGET","name":"NAME"` of one site.
#[derive(Default)]
pub(super) struct Label {
    bytes: Vec<u8>,
    name_at: usize,
}

impl Label {
    fn of(site: &Site) -> Label {
        let mut bytes = Vec::with_capacity(20 + site.name.len() + site.target.len());
        bytes.extend_from_slice(b",\"cat\":");
        json::string(&mut bytes, site.target);
        bytes.extend_from_slice(b",\"name\":");
        let name_at = bytes.len();
        json::string(&mut bytes, site.name);
        Label { bytes, name_at }
    }

    /// Returns everything, with the site's name.
    pub(super) fn with_name(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns everything up to the name, where another name can follow.
    pub(super) fn without_name(&self) -> &[u8] {
        &self.bytes[..self.name_at]
    }
}

/// The labels of all sites seen, by [`SiteId`](crate::model::SiteId), which counts up from 0.
#[derive(Default)]
pub(super) struct Labels {
    known: Vec<Option<Label>>,
    /// The label of the last site beyond what is remembered.
    spare: Label,
}

impl Labels {
    #[inline]
    pub(super) fn label(&mut self, site: &Site) -> &Label {
        let index = usize::try_from(site.id.0).unwrap_or(usize::MAX);
        if index >= REMEMBERED {
            self.spare = Label::of(site);
            return &self.spare;
        }
        if index >= self.known.len() {
            self.known.resize_with(index + 1, || None);
        }
        self.known[index].get_or_insert_with(|| Label::of(site))
    }
}

/// `,"pid":PID,"tid":TID` of the threads seen.
pub(super) struct Lanes {
    pid: u64,
    known: HashMap<u32, Box<[u8]>>,
    /// Records come in batches of one thread, so the last one is nearly always the one looked for.
    last: Option<u32>,
    last_ids: Vec<u8>,
}

impl Lanes {
    pub(super) fn new(pid: u64) -> Lanes {
        Lanes {
            pid,
            known: HashMap::new(),
            last: None,
            last_ids: Vec::new(),
        }
    }

    /// Returns the ids of a thread; `introduce` is called with them before a thread is used for the first time.
    #[inline]
    pub(super) fn ids(&mut self, thread: &Thread, introduce: impl FnOnce(&[u8])) -> &[u8] {
        if self.last != Some(thread.index) {
            self.switch(thread, introduce);
        }
        &self.last_ids
    }

    #[cold]
    fn switch(&mut self, thread: &Thread, introduce: impl FnOnce(&[u8])) {
        self.last = Some(thread.index);
        self.last_ids.clear();
        if let Some(ids) = self.known.get(&thread.index) {
            self.last_ids.extend_from_slice(ids);
            return;
        }
        self.last_ids.extend_from_slice(b",\"pid\":");
        json::unsigned(&mut self.last_ids, self.pid);
        self.last_ids.extend_from_slice(b",\"tid\":");
        json::unsigned(&mut self.last_ids, tid(thread));
        introduce(&self.last_ids);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known
            .insert(thread.index, self.last_ids.as_slice().into());
    }
}
