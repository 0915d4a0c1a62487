//! How much device memory was held at a time, from allocations and releases.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::model::{GpuApi, GpuCall, Nanos};

/// Blocks that are held at one time, about 16 MiB for all. Beyond, nothing is said about memory.
const MAX_BLOCKS: usize = 262_144;

/// Releases whose allocation has not come: it was noted on another thread, or before the capture began.
const MAX_EARLY: usize = 4_096;

/// The blocks of all contexts. Addresses are the process's, no two devices have the same.
#[derive(Debug, Default)]
pub(super) struct Memory {
    blocks: HashMap<u64, Block>,
    early: HashMap<u64, Nanos>,
    early_order: VecDeque<u64>,
    contexts: BTreeMap<u32, Held>,
    /// More blocks than there is room for.
    overflowed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    bytes: u64,
    since: Nanos,
    context: u32,
}

/// Of one context, or of a device.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    now: u64,
    most: u64,
}

impl Memory {
    /// Takes a call; those of one batch by rising start.
    pub(super) fn take(&mut self, call: &GpuCall) {
        let Some(memory) = call.memory else { return };
        match call.api {
            GpuApi::Allocate => {
                let block = Block {
                    bytes: memory.bytes.unwrap_or(0),
                    since: call.start,
                    context: call.context,
                };
                self.allocate(memory.address, block);
            }
            GpuApi::Free => self.free(memory.address, call.start),
            _ => {}
        }
    }

    /// Returns the most that the contexts of a device held; `None` where no allocation was seen, or too many.
    pub(super) fn peak(&self, contexts: impl Iterator<Item = u32>) -> Option<u64> {
        if self.overflowed {
            return None;
        }
        let held: Vec<Held> = contexts
            .filter_map(|context| self.contexts.get(&context).copied())
            .collect();
        // Nearly always one. Of several the peaks may lie apart, so that their sum would say too much.
        let now: u64 = held.iter().map(|held| held.now).sum();
        held.iter()
            .map(|held| held.most)
            .max()
            .map(|most| most.max(now))
    }

    /// Begins a new peak with what is held now.
    pub(super) fn restart(&mut self) {
        for held in self.contexts.values_mut() {
            held.most = held.now;
        }
    }

    fn allocate(&mut self, address: u64, block: Block) {
        // A block that stands there was released in between; that call is still to come.
        self.release(address);
        let held = self.contexts.entry(block.context).or_default();
        held.now = held.now.saturating_add(block.bytes);
        held.most = held.most.max(held.now);
        if self.blocks.len() >= MAX_BLOCKS {
            self.overflowed = true;
            return;
        }
        self.blocks.insert(address, block);
        if let Some(freed) = self.early.remove(&address)
            && freed >= block.since
        {
            self.release(address);
        }
    }

    fn free(&mut self, address: u64, at: Nanos) {
        match self.blocks.get(&address) {
            // It is the release of the block that stood there before.
            Some(block) if block.since > at => {}
            Some(_) => self.release(address),
            None => {
                if self.early.insert(address, at).is_none() {
                    self.early_order.push_back(address);
                }
                if self.early_order.len() > MAX_EARLY
                    && let Some(oldest) = self.early_order.pop_front()
                {
                    self.early.remove(&oldest);
                }
            }
        }
    }

    fn release(&mut self, address: u64) {
        if let Some(block) = self.blocks.remove(&address)
            && let Some(held) = self.contexts.get_mut(&block.context)
        {
            held.now = held.now.saturating_sub(block.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GpuMemory, Thread};

    fn call(api: GpuApi, context: u32, at: u64, address: u64, bytes: Option<u64>) -> GpuCall {
        GpuCall {
            api,
            function: "cuMemAlloc",
            correlation: 1,
            context,
            thread: Thread::new(1, None, None),
            start: Nanos(at),
            end: Some(Nanos(at + 1)),
            caller: None,
            memory: Some(GpuMemory::new(address, bytes)),
            error: None,
        }
    }

    fn allocate(at: u64, address: u64, bytes: u64) -> GpuCall {
        call(GpuApi::Allocate, 1, at, address, Some(bytes))
    }

    fn free(at: u64, address: u64) -> GpuCall {
        call(GpuApi::Free, 1, at, address, None)
    }

    fn peak(calls: &[GpuCall]) -> Option<u64> {
        let mut memory = Memory::default();
        calls.iter().for_each(|call| memory.take(call));
        memory.peak([1].into_iter())
    }

    #[test]
    fn the_peak_is_the_most_that_was_held_at_one_time() {
        let calls = [
            allocate(1, 0x10, 100),
            allocate(2, 0x20, 50),
            free(3, 0x10),
            allocate(4, 0x30, 60),
        ];
        assert_eq!(peak(&calls), Some(150));
        assert_eq!(peak(&[]), None);
    }

    #[test]
    fn a_release_that_comes_before_its_allocation_or_after_the_next_one_is_understood() {
        let early = [free(5, 0x10), allocate(1, 0x10, 100), allocate(6, 0x20, 50)];
        assert_eq!(peak(&early), Some(100));
        let late = [
            allocate(1, 0x10, 100),
            allocate(6, 0x10, 30),
            free(5, 0x10),
            allocate(7, 0x20, 80),
        ];
        assert_eq!(peak(&late), Some(110));
        let of_before = [free(1, 0x10), allocate(6, 0x10, 30), allocate(7, 0x20, 5)];
        assert_eq!(peak(&of_before), Some(35));
    }

    #[test]
    fn more_blocks_than_fit_are_no_measurement() {
        let mut memory = Memory::default();
        for address in 0..=MAX_BLOCKS as u64 {
            memory.take(&allocate(1, address, 1));
        }
        assert_eq!(memory.peak([1].into_iter()), None);
        for address in 0..2 * MAX_EARLY as u64 {
            memory.take(&free(2, (1 << 40) + address));
        }
        assert_eq!(memory.early.len(), MAX_EARLY);
    }

    #[test]
    fn a_restart_keeps_what_is_held() {
        let mut memory = Memory::default();
        memory.take(&allocate(1, 0x10, 100));
        memory.take(&allocate(2, 0x20, 50));
        memory.take(&free(3, 0x20));
        memory.restart();
        memory.take(&allocate(4, 0x30, 20));
        assert_eq!(memory.peak([1].into_iter()), Some(120));
    }

    #[test]
    fn contexts_are_kept_apart() {
        let mut memory = Memory::default();
        memory.take(&allocate(1, 0x10, 100));
        memory.take(&call(GpuApi::Allocate, 2, 2, 0x20, Some(7)));
        assert_eq!(memory.peak([2].into_iter()), Some(7));
        assert_eq!(memory.peak([1, 2].into_iter()), Some(107));
    }
}
