//! What the measured program does.

use std::hint::black_box;
use std::time::Duration;

use tracing::info_span;

use crate::cpu;
use crate::gpu::{Driver, Kernel, Stream};

/// Launches or spans without a pause, well within what the thread's buffer holds.
pub(crate) const BURST: u64 = 2_000;
/// Bursts of one measurement.
pub(crate) const BURSTS: u64 = 60;
/// Launches of one span; so many that the span itself costs nothing beside them.
const OF_SPAN: u64 = 100;

pub(crate) enum Work {
    Launches(Driver, Kernel),
    Spans,
}

impl Work {
    /// Does this many.
    #[inline(never)]
    pub(crate) fn burst(&self, count: u64) {
        match self {
            Work::Spans => {
                for _ in 0..count {
                    let span = info_span!("span").entered();
                    black_box(&span);
                }
            }
            Work::Launches(driver, kernel) => {
                for _ in 0..count / OF_SPAN {
                    let _span = info_span!("launch").entered();
                    for _ in 0..OF_SPAN {
                        driver.launch(*kernel, Stream::DEFAULT).unwrap();
                    }
                }
            }
        }
    }
}

/// Returns the CPU time of this thread inside the bursts. Between them, `hand_over` waits until what was noted is taken.
pub(crate) fn measured(work: &Work, bursts: u64, hand_over: impl Fn()) -> Duration {
    let mut inside = Duration::ZERO;
    for _ in 0..bursts {
        let before = cpu::thread_time().unwrap();
        work.burst(BURST);
        inside += cpu::thread_time().unwrap() - before;
        hand_over();
    }
    inside
}
