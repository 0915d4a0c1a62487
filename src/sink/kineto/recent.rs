//! The newest spans, kept because nobody knows yet whether their thread will call a device.

use std::collections::VecDeque;

use crate::model::Thread;

/// How much is kept: some 8,000 rows. A thread that calls a device does so soon after it has entered the spans around.
const BYTES: usize = 1 << 20;

/// Rows of all threads, the oldest first.
#[derive(Default)]
pub(super) struct Recent {
    rows: VecDeque<(u32, Box<[u8]>)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn push(&mut self, thread: &Thread, row: &[u8]) {
        self.bytes += row.len();
        self.rows.push_back((thread.index, row.into()));
        while self.bytes > BYTES
            && let Some((_, oldest)) = self.rows.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    /// Iterates over the rows of a thread.
    pub(super) fn of(&self, thread: &Thread) -> impl Iterator<Item = &[u8]> {
        let index = thread.index;
        let rows = self.rows.iter();
        rows.filter(move |(of, _)| *of == index)
            .map(|(_, row)| &**row)
    }
}
