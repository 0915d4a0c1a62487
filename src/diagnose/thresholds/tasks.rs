//! What the rules about tasks and futures compare with.

use std::time::Duration;

/// CTX103 to 109: tasks and futures. CTX101 and 102 have their numbers in [`Thresholds`](crate::Thresholds).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskThresholds {
    /// CTX101: the part of their time from which the workers of a runtime are busy all the time, so that what no longer
    /// blocks them is gained: 0.9. Own choice.
    pub saturated_workers: f64,

    /// CTX103: the shortest of the spans that are awaited one after the other: 1 ms. Own choice; Sentry has 30 ms for
    /// queries, but reports single traces.
    pub serial_await: Duration,
    /// CTX103: the longest pause between two of them: 1 ms, or the next number's part of the first, if that is more.
    pub serial_gap: Duration,
    /// CTX103: see [`TaskThresholds::serial_gap`]: 0.05. Own choice.
    pub serial_gap_share: f64,
    /// CTX103: the part of each in which it waits: 0.8. What computes does not get faster side by side on one worker.
    pub serial_idle_share: f64,
    /// CTX103: the part of the parent that would be saved: 0.1, as Sentry's detectors have it.
    pub serial_saving: f64,
    /// CTX103: the part of the parents that await them in this order: 0.9. Own choice.
    pub serial_stable: f64,
    /// CTX103: parents, or rounds of loops, in which it was seen: 5. Own choice.
    pub serial_repeats: u64,
    /// CTX103: how many rounds of a loop are taken to run side by side: 8. Own choice, far below what servers bear.
    pub serial_batch: usize,

    /// CTX104: the delay that one task in twenty exceeds: 1 ms; tokio-metrics calls 50 us long.
    pub delay: Duration,
    /// CTX104: the part of the time that would vanish without the delays: 0.05. Own choice.
    pub delay_share: f64,
    /// CTX104: spawned tasks that were seen to start: 100. Own choice.
    pub delay_starts: u64,
    /// CTX104: the part of their time for which the workers are busy; less, and something else delayed the tasks: 0.5.
    /// Own choice.
    pub delay_busy_share: f64,

    /// CTX105: polls of one span on average: 1000. Own choice.
    pub spin_polls: u64,
    /// CTX105: how long they take on average, below which they can hardly do anything: 5 us. Own choice.
    pub spin_poll: Duration,
    /// CTX105: the time from one poll to the next on average, below which hardly anything can have happened in between:
    /// 25 us, less than a loopback round trip takes. A `yield_now` of tokio takes 1 to 20 us. Own choice.
    pub spin_period: Duration,
    /// CTX105: the process's CPU time against the time for which the spans are open: 0.3. What waits for others between
    /// its polls leaves the cores idle. Own choice.
    pub spin_cpu: f64,

    /// CTX106: one poll: 1 s, as tokio-console has it.
    pub never_yields: Duration,

    /// CTX107: tasks: 1000. Own choice; rayon-rs/rayon#648 has 2000.
    pub tiny_tasks: u64,
    /// CTX107: how long half of them take at most: 10 us, ten times what rayon needs to hand one over.
    pub tiny_task: Duration,
    /// CTX107: CPU time that is spent on handing a task over, against the time inside it: 1. Own choice.
    pub tiny_overhead: f64,
    /// CTX107: the most that a hand-over can cost: 20 us. More is code without spans between the tasks. Own choice.
    pub tiny_handover: Duration,
    /// CTX107: the part of the process's CPU time that hand-overs take: 0.1. Own choice.
    pub tiny_share: f64,
    /// CTX107: the work that a task should have: 50 us, so that handing it over costs a few per cent.
    pub task_work: Duration,

    /// CTX108: spans of one site that are open at the same time: 64. Own choice.
    pub fan_out: u64,
    /// CTX108: the same for each core: 8. Own choice.
    pub fan_out_per_core: u64,
    /// CTX108: spans that are compared: 50. Own choice.
    pub fan_out_spans: u64,
    /// CTX108: Spearman's correlation of how many are open with how long each takes: 0.6. Own choice.
    pub fan_out_correlation: f64,
    /// CTX108: the probability of that by chance: 0.01.
    pub fan_out_chance: f64,
    /// CTX108: how much longer those in the most crowded quarter take than those in the least crowded: 2 times.
    pub fan_out_slowdown: f64,

    /// CTX109: readings of the number of open spans: 20.
    pub live_samples: u64,
    /// CTX109: the time over which they were taken: 2 s.
    pub live_time: Duration,
    /// CTX109: by how many the open spans rise: 10. Own choice.
    pub live_growth: u64,
    /// CTX109: the probability of such a rise by chance: 0.01.
    pub live_chance: f64,
    /// CTX109: the part of the readings that is start-up: 0.3. Simulated.
    pub live_warm_up: f64,
    /// CTX109: the slope of the second half against that of the first, below which the rise is ending: 0.3. Simulated.
    pub live_steady: f64,
    /// CTX109: how long an open span was not polled before it counts as stuck: 60 s. Own choice.
    pub stuck: Duration,
    /// CTX109: stuck spans of one site: 10. Own choice; a server has some that wait for its end.
    pub stuck_spans: u64,
}

impl Default for TaskThresholds {
    fn default() -> TaskThresholds {
        TaskThresholds {
            saturated_workers: 0.9,
            serial_await: Duration::from_millis(1),
            serial_gap: Duration::from_millis(1),
            serial_gap_share: 0.05,
            serial_idle_share: 0.8,
            serial_saving: 0.1,
            serial_stable: 0.9,
            serial_repeats: 5,
            serial_batch: 8,
            delay: Duration::from_millis(1),
            delay_share: 0.05,
            delay_starts: 100,
            delay_busy_share: 0.5,
            spin_polls: 1_000,
            spin_poll: Duration::from_micros(5),
            spin_period: Duration::from_micros(25),
            spin_cpu: 0.3,
            never_yields: Duration::from_secs(1),
            tiny_tasks: 1_000,
            tiny_task: Duration::from_micros(10),
            tiny_overhead: 1.0,
            tiny_handover: Duration::from_micros(20),
            tiny_share: 0.1,
            task_work: Duration::from_micros(50),
            fan_out: 64,
            fan_out_per_core: 8,
            fan_out_spans: 50,
            fan_out_correlation: 0.6,
            fan_out_chance: 0.01,
            fan_out_slowdown: 2.0,
            live_samples: 20,
            live_time: Duration::from_secs(2),
            live_growth: 10,
            live_chance: 0.01,
            live_warm_up: 0.3,
            live_steady: 0.3,
            stuck: Duration::from_secs(60),
            stuck_spans: 10,
        }
    }
}
