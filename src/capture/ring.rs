//! The bounded buffer between one thread and the collector: single producer, single consumer, no lock.

use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// A ring of 64-bit words. Positions count up for ever; the place is the position modulo the capacity.
#[derive(Debug)]
pub(super) struct Ring {
    words: Box<[AtomicU64]>,
    head: Padded,
    tail: Padded,
    /// Records that did not fit.
    pub(super) dropped_spans: AtomicU64,
    pub(super) dropped_events: AtomicU64,
}

/// Keeps the two ends on cache lines of their own (two, because adjacent lines are fetched together).
#[derive(Debug)]
#[repr(align(128))]
struct Padded(AtomicUsize);

impl Ring {
    /// Allocates a ring; `words` must be a power of two.
    pub(super) fn new(words: usize) -> Ring {
        debug_assert!(words.is_power_of_two());
        Ring {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            head: Padded(AtomicUsize::new(0)),
            tail: Padded(AtomicUsize::new(0)),
            dropped_spans: AtomicU64::new(0),
            dropped_events: AtomicU64::new(0),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.words.len()
    }

    /// Whether the consumer has taken everything.
    pub(super) fn is_drained(&self) -> bool {
        self.head.0.load(Acquire) == self.tail.0.load(Relaxed)
    }

    /// Consumer: appends all complete records to `out`, as bytes in little-endian order, and frees their place.
    pub(super) fn drain(&self, out: &mut Vec<u8>) {
        // Pairs with the release in `Producer::publish`: the words below `head` are written.
        let head = self.head.0.load(Acquire);
        let tail = self.tail.0.load(Relaxed);
        out.reserve(head.wrapping_sub(tail) * 8);
        let mask = self.words.len() - 1;
        let (from, to) = (tail & mask, head & mask);
        let used = head.wrapping_sub(tail);
        let mut copy = |words: &[AtomicU64]| {
            for word in words {
                out.extend_from_slice(&word.load(Relaxed).to_le_bytes());
            }
        };
        if used > 0 && from < to {
            copy(&self.words[from..to]);
        } else if used > 0 {
            copy(&self.words[from..]);
            copy(&self.words[..to]);
        }
        // Pairs with the acquire in `Producer::refresh`: the words have been read before their place is free.
        self.tail.0.store(head, Release);
    }
}

/// The producer's side: positions that only the producing thread needs.
#[derive(Debug)]
pub(super) struct Producer {
    head: usize,
    /// Up to here the producer may write without looking at the consumer.
    soft_limit: usize,
}

/// What the producer learns when it looks at the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room.
    Free,
    /// There is room, but the ring is half full: time to wake the consumer.
    HalfFull,
    /// There is no room now.
    Full,
}

impl Producer {
    pub(super) fn new() -> Producer {
        Producer {
            head: 0,
            soft_limit: 0,
        }
    }

    /// Whether `words` fit for certain, without looking at the consumer.
    #[inline]
    pub(super) fn fits(&self, words: usize) -> bool {
        self.head + words <= self.soft_limit
    }

    /// Looks at how far the consumer has come.
    #[cold]
    pub(super) fn refresh(&mut self, ring: &Ring, words: usize) -> Room {
        let capacity = ring.capacity();
        let tail = ring.tail.0.load(Acquire);
        let hard_limit = tail.wrapping_add(capacity);
        // Looking again after an eighth keeps the shared line out of the common case.
        self.soft_limit = hard_limit.min(self.head + words.max(capacity / 8));
        if self.head + words > hard_limit {
            Room::Full
        } else if self.head - tail >= capacity / 2 {
            Room::HalfFull
        } else {
            Room::Free
        }
    }

    /// Writes one word at `offset` of the record under way. The room must have been checked.
    #[inline]
    pub(super) fn put(&self, ring: &Ring, offset: usize, word: u64) {
        let mask = ring.words.len() - 1;
        ring.words[(self.head + offset) & mask].store(word, Relaxed);
    }

    /// Writes the first words of the record under way. The room must have been checked.
    #[inline]
    pub(super) fn put_first<const N: usize>(&self, ring: &Ring, words: [u64; N]) {
        let start = self.head & (ring.words.len() - 1);
        match ring.words[start..].first_chunk::<N>() {
            Some(places) => {
                for (place, word) in places.iter().zip(words) {
                    place.store(word, Relaxed);
                }
            }
            None => self.put_around(ring, &words),
        }
    }

    /// The same where the words reach beyond the end of the ring.
    #[cold]
    fn put_around(&self, ring: &Ring, words: &[u64]) {
        for (offset, &word) in words.iter().enumerate() {
            self.put(ring, offset, word);
        }
    }

    /// Makes a record of `words` visible to the consumer.
    #[inline]
    pub(super) fn publish(&mut self, ring: &Ring, words: usize) {
        self.head += words;
        ring.head.0.store(self.head, Release);
    }
}
