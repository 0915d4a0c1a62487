//! The bounded buffer between one thread and the collector: single producer, single consumer, no lock.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// A ring of 64-bit words. Positions count up for ever, which 64 bits allow also where a pointer has 32; the place is
/// the position modulo the capacity.
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
struct Padded(AtomicU64);

impl Ring {
    /// Allocates a ring; `words` must be a power of two.
    pub(super) fn new(words: usize) -> Ring {
        debug_assert!(words.is_power_of_two());
        Ring {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            head: Padded(AtomicU64::new(0)),
            tail: Padded(AtomicU64::new(0)),
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

    /// Whether it is so full that the consumer should not wait.
    pub(super) fn is_filling(&self) -> bool {
        let used = self
            .head
            .0
            .load(Relaxed)
            .wrapping_sub(self.tail.0.load(Relaxed));
        used >= self.words.len() as u64 / 4
    }

    /// Consumer: appends all complete records to `out`, as bytes in little-endian order, and frees their place.
    pub(super) fn drain(&self, out: &mut Vec<u8>) {
        // Pairs with the release in `Producer::publish`: the words below `head` are written.
        let head = self.head.0.load(Acquire);
        let tail = self.tail.0.load(Relaxed);
        let used = (head - tail) as usize;
        out.reserve(used * 8);
        let mask = self.words.len() - 1;
        let (from, to) = (tail as usize & mask, head as usize & mask);
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
    head: u64,
    /// Up to here the producer may write without looking at the consumer.
    soft_limit: u64,
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
        self.head + words as u64 <= self.soft_limit
    }

    /// Looks at how far the consumer has come.
    #[cold]
    pub(super) fn refresh(&mut self, ring: &Ring, words: usize) -> Room {
        let (capacity, words) = (ring.capacity() as u64, words as u64);
        let tail = ring.tail.0.load(Acquire);
        let hard_limit = tail + capacity;
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

    /// Returns the places of the record under way, if `words` fit for certain and do not reach beyond the ring's end.
    #[inline]
    pub(super) fn places<'r>(&self, ring: &'r Ring, words: usize) -> Option<&'r [AtomicU64]> {
        if !self.fits(words) {
            return None;
        }
        let start = self.head as usize & (ring.words.len() - 1);
        ring.words[start..].get(..words)
    }

    /// Writes one word at `offset` of the record under way. The room must have been checked.
    #[inline]
    pub(super) fn put(&self, ring: &Ring, offset: usize, word: u64) {
        let mask = ring.words.len() - 1;
        ring.words[(self.head as usize).wrapping_add(offset) & mask].store(word, Relaxed);
    }

    /// Makes a record of `words` visible to the consumer.
    #[inline]
    pub(super) fn publish(&mut self, ring: &Ring, words: usize) {
        self.head += words as u64;
        ring.head.0.store(self.head, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    /// Writes a record of `words` words, each of them `value`, if there is room.
    fn write(producer: &mut Producer, ring: &Ring, words: usize, value: u64) -> bool {
        if !producer.fits(words) && producer.refresh(ring, words) == Room::Full {
            return false;
        }
        for offset in 0..words {
            producer.put(ring, offset, value);
        }
        producer.publish(ring, words);
        true
    }

    fn drained(ring: &Ring) -> Vec<u64> {
        let mut bytes = Vec::new();
        ring.drain(&mut bytes);
        let words = bytes.chunks_exact(8);
        words
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(usize),
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1_usize..=64).prop_map(Step::Write),
            1 => Just(Step::Drain),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// A queue that holds 64 words is the model: what it accepts the ring accepts, in the same order.
        #[test]
        fn any_writes_and_drains_keep_the_records_and_their_order(steps in steps(), start in 0_u64..64) {
            let ring = Ring::new(64);
            let mut producer = Producer::new();
            // Starts anywhere in the ring, so that records wrap at all offsets.
            write(&mut producer, &ring, start as usize, 0);
            drained(&ring);

            let mut model = Vec::new();
            for (value, step) in steps.into_iter().enumerate() {
                let value = value as u64;
                match step {
                    Step::Write(words) => {
                        let fits = model.len() + words <= 64;
                        prop_assert_eq!(write(&mut producer, &ring, words, value), fits);
                        if fits {
                            model.extend(std::iter::repeat_n(value, words));
                        }
                    }
                    Step::Drain => {
                        prop_assert_eq!(drained(&ring), std::mem::take(&mut model));
                        prop_assert!(ring.is_drained());
                    }
                }
                prop_assert_eq!(ring.is_drained(), model.is_empty());
            }
            prop_assert_eq!(drained(&ring), model);
        }
    }

    #[test]
    fn the_producer_hears_when_the_ring_is_half_full_and_when_it_is_full() {
        let ring = Ring::new(64);
        let mut producer = Producer::new();
        assert_eq!(producer.refresh(&ring, 32), Room::Free);
        assert!(write(&mut producer, &ring, 32, 1));
        assert_eq!(producer.refresh(&ring, 32), Room::HalfFull);
        assert_eq!(producer.refresh(&ring, 33), Room::Full);
        assert!(write(&mut producer, &ring, 32, 2));
        assert_eq!(producer.refresh(&ring, 1), Room::Full);
        assert_eq!(drained(&ring).len(), 64);
        assert_eq!(producer.refresh(&ring, 64), Room::Free);
    }

    #[test]
    fn two_threads_see_every_record_whole_and_in_order() {
        const RECORDS: u64 = if cfg!(miri) { 300 } else { 300_000 };
        let ring = Ring::new(128);
        let done = AtomicBool::new(false);
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut producer = Producer::new();
                for value in 0..RECORDS {
                    let words = 1 + value as usize % 50;
                    while !write(&mut producer, &ring, words, value) {
                        std::thread::yield_now();
                    }
                }
                done.store(true, Release);
            });
            loop {
                let last = done.load(Acquire);
                seen.extend(drained(&ring));
                if last {
                    break;
                }
                std::thread::yield_now();
            }
        });
        let mut seen = seen.into_iter();
        for value in 0..RECORDS {
            for _ in 0..1 + value % 50 {
                assert_eq!(seen.next(), Some(value));
            }
        }
        assert_eq!(seen.next(), None);
    }
}
