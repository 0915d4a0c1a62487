//! How much of an activation its thread was on a CPU, at the level that measures it.
//!
//! Asking the kernel takes some 260 ns, twice per activation. So sites whose activations are short on average are measured
//! once in a while only; what is not measured counts as a part of what is around it, in time as in CPU time.

use std::sync::atomic::Ordering::Relaxed;

use super::capture::Capture;
use super::frame::FRAME_TIMED;
use super::local::{ThreadShared, Work};

/// Activations that take this long on average are all measured: a fortieth of it is what measuring takes.
pub(super) const LONG_NS: u64 = 20_000;
/// Of shorter ones this many go by for each that is measured.
const ONE_IN: u64 = 16;

/// What is known of the frame with the same number. There is one for each frame where CPU time is measured.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timed {
    /// The thread's CPU time when it was entered; `None` where the frame is not measured.
    cpu: Option<u64>,
    entered: u64,
    is_activation: bool,
    /// Of measured activations inside.
    child_cpu: u64,
    child_ticks: u64,
}

/// Begins to measure the frame that is about to be put on the stack, or not; returns the frame's flag. `node` is `None` for
/// an inner enter of a span, which is no activation.
#[cold]
pub(super) fn entered(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    node: Option<u32>,
) -> u32 {
    if !capture.streams.cpu {
        return 0;
    }
    debug_assert_eq!(work.timed.len(), shared.depth.load(Relaxed));
    let is_worth_it = node.is_some_and(|node| {
        let (count, ticks) = work.tree.node(node).activations_at_all();
        count.is_multiple_of(ONE_IN) || ticks / count >= capture.long_ticks
    });
    let cpu = match is_worth_it {
        true => capture.clock.thread_cpu(),
        false => None,
    };
    work.timed.push(Timed {
        cpu,
        entered: capture.clock.tick(),
        is_activation: node.is_some(),
        ..Timed::default()
    });
    FRAME_TIMED
}

/// Ends the measurement of the frame that was at `at`.
#[cold]
pub(super) fn left(capture: &Capture, work: &mut Work, at: usize, node: u32, now: u64) {
    let is_innermost = at + 1 == work.timed.len();
    if at >= work.timed.len() {
        return;
    }
    let timed = work.timed.remove(at);
    let whole = now.saturating_sub(timed.entered);
    if timed.is_activation {
        work.tree.node(node).count_at_all(whole);
    }
    let (mut cpu, mut ticks) = (timed.child_cpu, timed.child_ticks);
    // Guards dropped in another order: what goes on above is not told apart from the frame's own.
    if is_innermost
        && let Some(before) = timed.cpu
        && let Some(after) = capture.clock.thread_cpu()
    {
        let whole_cpu = after.saturating_sub(before);
        let node = work.tree.node(node);
        node.count_cpu(whole.saturating_sub(ticks), whole_cpu.saturating_sub(cpu));
        (cpu, ticks) = (whole_cpu, whole);
    }
    if let Some(outer) = at.checked_sub(1) {
        let outer = &mut work.timed[outer];
        outer.child_cpu += cpu;
        outer.child_ticks += ticks;
    }
}

/// Gives up what is being measured: after a reset, only what is entered from now on counts.
pub(super) fn start_anew(work: &mut Work) {
    work.timed.fill(Timed::default());
}
