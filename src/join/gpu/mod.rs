//! Puts together what devices did and the calls that had them do it.
//!
//! The two come on different ways: a thread notes both ends of a call in its buffer, the driver tells of the work when it
//! is over and a buffer of its own is full or asked for. So a call is remembered until its work can have come, and work
//! waits a little for its call.

mod calls;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use self::calls::{Calls, Found};
use crate::model::{GpuActivity, GpuApi, GpuCall, GpuCallEnd, GpuCaller, GpuKind, GpuOwner};
use crate::model::{GpuWork, Nanos, PathId, RawCaller, Site};

/// Rounds that work waits for a call of which nothing is known. The call began before its work did, so that it is in the
/// buffers that are emptied in this round or in the next; the others are for a thread that was slow to hand its own over.
const WAITING_ROUNDS: u64 = 8;

/// Rounds that work waits for a call that has begun: its thread may be kept from returning.
const RETURNING_ROUNDS: u64 = 1_024;

/// Work that may wait from one round to the next: 12 MiB of it. A full buffer of the driver has less.
const MAX_WAITING: usize = 65_536;

/// Finds the site of a call path.
pub(crate) type SiteOf<'a> = dyn Fn(PathId) -> Option<Arc<Site>> + 'a;

/// Joins work to calls; fed by one thread at a time.
#[derive(Debug, Default)]
pub(crate) struct GpuJoin {
    calls: Calls,
    waiting: VecDeque<Waiting>,
    done: GpuJoined,
    round: u64,
    unattributed: u64,
    /// When the capture was closed.
    closed: Option<Nanos>,
}

/// Work and calls that are complete.
#[derive(Debug, Default)]
pub(crate) struct GpuJoined {
    pub(crate) work: Vec<GpuWork>,
    pub(crate) calls: Vec<Arc<GpuCall>>,
}

/// Work whose call is not complete, or not known.
#[derive(Debug)]
struct Waiting {
    correlation: u32,
    since: u64,
    work: GpuWork,
}

impl GpuJoin {
    /// Takes the ends of calls, in the order of each thread.
    pub(crate) fn calls(&mut self, ends: &[GpuCallEnd<'_>], site_of: &SiteOf<'_>) {
        for end in ends {
            let complete = match *end {
                GpuCallEnd::Begin {
                    correlation,
                    function,
                    context,
                    thread,
                    at,
                    caller,
                } => {
                    // A function without a name is counted where it was called.
                    let Some((function, api)) = function.describe() else {
                        continue;
                    };
                    let call = GpuCall {
                        api,
                        function,
                        correlation,
                        context,
                        thread: thread.clone(),
                        start: at,
                        end: None,
                        caller: caller.map(|caller| known_caller(caller, site_of)),
                        memory: None,
                        error: None,
                    };
                    self.calls.begin(call)
                }
                GpuCallEnd::Return {
                    correlation,
                    at,
                    error,
                    memory,
                } => self.calls.complete(correlation, |call| {
                    call.end = Some(at.max(call.start));
                    call.error = (error != 0).then_some(error);
                    call.memory = memory.filter(|_| error == 0);
                }),
            };
            self.done.calls.extend(complete);
        }
    }

    /// Takes what devices did.
    pub(crate) fn activities(&mut self, activities: Vec<GpuActivity>, site_of: &SiteOf<'_>) {
        for activity in activities {
            let mut work = GpuWork::new(
                activity.kind,
                activity.queue,
                activity.start,
                activity.end,
                activity.source,
            );
            work.graph = activity.graph;
            match activity.owner {
                GpuOwner::Known(caller) => {
                    work.caller = caller.map(|caller| known_caller(caller, site_of));
                    self.done.work.push(work);
                }
                GpuOwner::Call(correlation) => self.waiting.push_back(Waiting {
                    correlation,
                    since: self.round,
                    work,
                }),
            }
        }
    }

    /// Ends a round: returns the calls that have returned and the work whose calls are known, or will not be.
    pub(crate) fn end_round(&mut self) -> GpuJoined {
        self.round += 1;
        for waiting in std::mem::take(&mut self.waiting) {
            self.settle(waiting, false);
        }
        while self.waiting.len() > MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.settle(oldest, true);
        }
        self.calls.forget(self.round);
        std::mem::take(&mut self.done)
    }

    /// Returns everything that is left: calls that have not returned, and work whose call never came.
    pub(crate) fn finish(&mut self) -> GpuJoined {
        self.round += 1;
        for waiting in std::mem::take(&mut self.waiting) {
            self.settle(waiting, true);
        }
        self.done.calls.extend(self.calls.close());
        std::mem::take(&mut self.done)
    }

    /// Whether a call is known to have started work of which nothing was told yet.
    #[cfg(feature = "cuda")]
    pub(crate) fn awaits_work(&self) -> bool {
        self.calls.await_work()
    }

    /// Takes no work that started after this time, of which nobody notes the calls any more.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn close(&mut self, at: Nanos) {
        self.closed.get_or_insert(at);
    }

    /// Forgets what was counted, as after a reset. What is on its way stays: it has not been handed on.
    pub(crate) fn reset(&mut self) {
        self.unattributed = 0;
    }

    /// Returns how much work was handed on without its call.
    pub(crate) fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// Hands work on with its call. Keeps it waiting where that is not complete, unless this is the `last` moment.
    fn settle(&mut self, waiting: Waiting, last: bool) {
        let waited = self.round.saturating_sub(waiting.since);
        let call = match self.calls.find(waiting.correlation, self.round) {
            Found::Returned(call) => Some(call),
            Found::Open if last || waited > RETURNING_ROUNDS => {
                let call = self.calls.give_up(waiting.correlation, self.round);
                self.done.calls.extend(call.clone());
                call
            }
            Found::Unknown if last || waited > WAITING_ROUNDS => None,
            Found::Open | Found::Unknown => return self.waiting.push_back(waiting),
        };
        let mut work = waiting.work;
        match call {
            Some(call) => {
                if let GpuKind::Copy(copy) = &mut work.kind {
                    copy.is_async = matches!(call.api, GpuApi::CopyAsync | GpuApi::GraphLaunch);
                }
                work.caller = call.caller.clone();
                work.call = Some(call);
            }
            None if self.closed.is_some_and(|closed| work.start >= closed) => return,
            None => self.unattributed += 1,
        }
        self.done.work.push(work);
    }
}

fn known_caller(caller: RawCaller, site_of: &SiteOf<'_>) -> GpuCaller {
    let site = site_of(caller.path).unwrap_or_else(|| Arc::new(Site::other()));
    GpuCaller::new(caller.span, site, caller.path, caller.ids)
}
