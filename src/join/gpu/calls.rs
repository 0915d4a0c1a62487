//! Calls that go on, and calls whose work may still come.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::model::{GpuApi, GpuCall};

/// Calls that may go on at one time. A thread is in one, seldom in two, so more of them are calls whose return was lost:
/// the oldest is then handed on without an end.
const MAX_OPEN: usize = 4_096;

/// Calls whose work may still come, the newest; about 40 MiB with what they hold. A stream holds some 1,000 pieces of work
/// that have not begun, and the driver is asked every quarter of a second for what has ended.
const MAX_REMEMBERED: usize = 131_072;

/// Rounds for which a call is remembered after its last work. Most start one piece, and where they start more these are in
/// one buffer, or in two.
const ROUNDS_AFTER_WORK: u64 = 16;

/// The same for graphs, which may run for long: their work comes in pieces, as it ends.
const ROUNDS_AFTER_GRAPH_WORK: u64 = 4_096;

/// Calls by their number. A number comes again after 2^32 calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: HashMap<u32, (u64, GpuCall)>,
    remembered: HashMap<u32, Remembered>,
    /// Number and serial of those that were remembered, the oldest first; some are forgotten by now.
    order: VecDeque<(u32, u64)>,
    /// Number and serial of those with work, by the round in which they may be forgotten.
    due: BTreeMap<u64, Vec<(u32, u64)>>,
    /// Tells calls of one number apart.
    serial: u64,
    newest: Option<u32>,
}

#[derive(Debug)]
struct Remembered {
    serial: u64,
    call: Arc<GpuCall>,
    /// The round of the last work.
    worked: Option<u64>,
}

impl Remembered {
    fn due(&self) -> Option<u64> {
        let rounds = match self.call.api {
            GpuApi::GraphLaunch => ROUNDS_AFTER_GRAPH_WORK,
            _ => ROUNDS_AFTER_WORK,
        };
        Some(self.worked? + rounds)
    }
}

/// What is known of a call.
#[derive(Debug)]
pub(super) enum Found {
    Returned(Arc<GpuCall>),
    Open,
    Unknown,
}

impl Calls {
    /// Notes that a call has begun; returns one that will not be seen to return.
    pub(super) fn begin(&mut self, call: GpuCall) -> Option<Arc<GpuCall>> {
        let correlation = call.correlation;
        if self
            .newest
            .is_none_or(|newest| is_newer(correlation, newest))
        {
            self.newest = Some(correlation);
        }
        self.forget_numbers_that_come_again(correlation);
        self.serial += 1;
        let mut lost = self.open.insert(correlation, (self.serial, call));
        if self.open.len() > MAX_OPEN {
            let oldest = self.open.iter().min_by_key(|(_, (serial, _))| *serial);
            let oldest = oldest.map(|(&correlation, _)| correlation);
            lost = oldest.and_then(|oldest| self.open.remove(&oldest));
        }
        lost.map(|(_, call)| Arc::new(call))
    }

    /// Notes that a call has returned, and returns it; `None` where its begin was lost.
    pub(super) fn complete(
        &mut self,
        correlation: u32,
        fill_in: impl FnOnce(&mut GpuCall),
    ) -> Option<Arc<GpuCall>> {
        let (serial, mut call) = self.open.remove(&correlation)?;
        fill_in(&mut call);
        let call = Arc::new(call);
        if call.api.starts_work() && call.error.is_none() {
            self.remember(serial, Arc::clone(&call));
        }
        Some(call)
    }

    /// Looks for the call that started some work.
    pub(super) fn find(&mut self, correlation: u32, round: u64) -> Found {
        let Some(known) = self.remembered.get_mut(&correlation) else {
            return match self.open.contains_key(&correlation) {
                true => Found::Open,
                false => Found::Unknown,
            };
        };
        let first = known.worked.replace(round).is_none();
        if first && let Some(due) = known.due() {
            let entry = (correlation, known.serial);
            self.due.entry(due).or_default().push(entry);
        }
        Found::Returned(Arc::clone(&known.call))
    }

    /// Waits no longer for a call to return.
    pub(super) fn give_up(&mut self, correlation: u32, round: u64) -> Option<Arc<GpuCall>> {
        let (serial, call) = self.open.remove(&correlation)?;
        let call = Arc::new(call);
        self.remember(serial, Arc::clone(&call));
        self.find(correlation, round);
        Some(call)
    }

    /// Forgets the calls whose work has come some time ago.
    pub(super) fn forget(&mut self, round: u64) {
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= round
        {
            for (correlation, serial) in entry.remove() {
                let known = self.remembered.get(&correlation);
                let Some(known) = known.filter(|known| known.serial == serial) else {
                    continue;
                };
                match known.due() {
                    Some(due) if due > round => {
                        let later = self.due.entry(due).or_default();
                        later.push((correlation, serial));
                    }
                    _ => {
                        self.remembered.remove(&correlation);
                    }
                }
            }
        }
    }

    /// Returns the calls that have not returned, and forgets all.
    pub(super) fn close(&mut self) -> Vec<Arc<GpuCall>> {
        let calls = std::mem::take(self);
        let mut open: Vec<_> = calls.open.into_values().collect();
        open.sort_by_key(|(serial, _)| *serial);
        open.into_iter().map(|(_, call)| Arc::new(call)).collect()
    }

    #[cfg(feature = "cuda")]
    pub(super) fn await_work(&self) -> bool {
        self.remembered.values().any(|known| known.worked.is_none())
    }

    fn remember(&mut self, serial: u64, call: Arc<GpuCall>) {
        let correlation = call.correlation;
        let known = Remembered {
            serial,
            call,
            worked: None,
        };
        self.remembered.insert(correlation, known);
        self.order.push_back((correlation, serial));
        if self.order.len() > MAX_REMEMBERED {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((correlation, serial)) = self.order.pop_front() else {
            return;
        };
        let known = self.remembered.get(&correlation);
        if known.is_some_and(|known| known.serial == serial) {
            self.remembered.remove(&correlation);
        }
    }

    /// The work of a new call may come before the call does. It must not be taken for work of an old one.
    fn forget_numbers_that_come_again(&mut self, correlation: u32) {
        while let Some(&(oldest, _)) = self.order.front()
            && self.newest.is_some_and(|newest| is_newer(oldest, newest))
        {
            self.forget_oldest();
        }
        self.remembered.remove(&correlation);
    }
}

/// Whether a number comes after another one, counting around: what is 2^31 behind is taken to be ahead.
fn is_newer(number: u32, than: u32) -> bool {
    number.wrapping_sub(than).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Nanos, Thread};

    fn call(correlation: u32, api: GpuApi) -> GpuCall {
        GpuCall {
            api,
            function: "cuLaunchKernel",
            correlation,
            context: 1,
            thread: Thread::new(1, None, None),
            start: Nanos(1),
            end: None,
            caller: None,
            memory: None,
            error: None,
        }
    }

    fn made(calls: &mut Calls, correlation: u32, api: GpuApi) {
        assert!(calls.begin(call(correlation, api)).is_none());
        assert!(calls.complete(correlation, |_| ()).is_some());
    }

    fn is_known(calls: &mut Calls, correlation: u32) -> bool {
        matches!(calls.find(correlation, 0), Found::Returned(_))
    }

    #[test]
    fn a_call_is_forgotten_some_rounds_after_its_last_work() {
        let mut calls = Calls::default();
        made(&mut calls, 1, GpuApi::Launch);
        made(&mut calls, 2, GpuApi::GraphLaunch);
        made(&mut calls, 3, GpuApi::Launch);
        calls.forget(1_000_000);
        assert_eq!(calls.remembered.len(), 3, "no work has come yet");
        for round in [0, 10] {
            calls.find(1, round);
            calls.find(2, round);
            calls.forget(round + ROUNDS_AFTER_WORK - 1);
            assert_eq!(calls.remembered.len(), 3);
        }
        calls.forget(10 + ROUNDS_AFTER_WORK);
        assert!(!calls.remembered.contains_key(&1));
        assert!(calls.remembered.contains_key(&2), "a graph goes on");
        calls.forget(10 + ROUNDS_AFTER_GRAPH_WORK);
        assert_eq!(calls.remembered.keys().collect::<Vec<_>>(), [&3]);
        assert!(calls.due.is_empty());
    }

    #[test]
    fn only_so_many_calls_are_remembered_and_the_oldest_go_first() {
        let mut calls = Calls::default();
        let last = MAX_REMEMBERED as u32 + 10;
        for correlation in 1..=last {
            made(&mut calls, correlation, GpuApi::Launch);
        }
        assert_eq!(calls.remembered.len(), MAX_REMEMBERED);
        assert_eq!(calls.order.len(), MAX_REMEMBERED);
        assert!(!is_known(&mut calls, 10) && is_known(&mut calls, 11));
    }

    #[test]
    fn calls_whose_return_was_lost_are_handed_on_the_oldest_first() {
        let mut calls = Calls::default();
        let mut lost = Vec::new();
        for correlation in 1..=MAX_OPEN as u32 + 3 {
            lost.extend(calls.begin(call(correlation, GpuApi::Synchronize)));
        }
        let lost: Vec<_> = lost.iter().map(|call| call.correlation).collect();
        assert_eq!(lost, [1, 2, 3]);
        assert_eq!(calls.close().len(), MAX_OPEN);
    }

    #[test]
    fn a_number_that_comes_again_is_never_taken_for_the_old_call() {
        let mut calls = Calls::default();
        for step in 0..8_u32 {
            made(&mut calls, step << 29, GpuApi::Launch);
        }
        assert!(!is_known(&mut calls, 0), "the numbers are half way round");
        assert!(is_known(&mut calls, 7 << 29));
        assert!(calls.begin(call(7 << 29, GpuApi::Launch)).is_none());
        assert!(matches!(calls.find(7 << 29, 0), Found::Open));
    }

    #[test]
    fn calls_that_start_no_work_are_not_remembered() {
        let mut calls = Calls::default();
        made(&mut calls, 1, GpuApi::Synchronize);
        calls.begin(call(2, GpuApi::Launch));
        calls.complete(2, |call| call.error = Some(700));
        assert!(calls.remembered.is_empty() && calls.order.is_empty());
        assert!(calls.complete(3, |_| ()).is_none());
    }
}
