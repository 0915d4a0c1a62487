//! What the rules about locks, queues and threads compare with.

use std::time::Duration;

/// CTX007, 201, 202, 205 to 208: locks, queues and threads.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ThreadThresholds {
    /// CTX007: CPU time as a share of the cores that the process may use: 0.9, from the requirements.
    pub saturated_cpu: f64,
    /// CTX007: time that threads wait for a core, per CPU time: 0.1. Own choice; without a queue a busy machine is healthy.
    pub saturated_wait: f64,
    /// CTX007: ready threads per core: 1.1. Own choice; with fewer it is other programs that make the threads wait.
    pub saturated_ready: f64,
    /// CTX007, 205: readings in a row: 5, from the requirements' alert.
    pub saturated_readings: u64,

    /// CTX201: the share of the time that waiting for one lock takes: 0.05. Own choice.
    pub lock_share: f64,
    /// CTX201: the share of a lock's acquisitions that wait: 0.1. Own choice.
    pub lock_contended: f64,
    /// CTX201: time waited for a lock per time that it is held, where that is recorded: 0.5. Own choice.
    pub lock_wait_per_hold: f64,
    /// CTX201: acquisitions: 50. Own choice.
    pub lock_acquisitions: u64,
    /// CTX201, 202: a shorter wait is none: 5 us. Own choice, above what a free lock and a span around it cost.
    pub lock_wait: Duration,

    /// CTX202: the 95th percentile of how long a lock is held: 1 ms. Own choice.
    pub held: Duration,
    /// CTX202: the part of the held time that is work which needs no lock: 0.5, the larger part.
    pub held_work: f64,
    /// CTX202: the share of the time that waiting for that lock takes: 0.01. Own choice, the least that is told at all.
    pub held_share: f64,

    /// CTX205: ready threads per core, exclusive: 2, the usual sign of saturation in the utilisation-saturation-errors
    /// method.
    pub oversubscribed_ready: f64,
    /// CTX205: the share of their ready time that threads wait for a core: 0.2. Own choice.
    pub oversubscribed_wait: f64,
    /// CTX205: involuntary switches of a thread per second, which count instead: 1,000, a time slice of 1 ms.
    pub oversubscribed_switches: f64,
    /// CTX205: CPU time as a share of the cores: 0.5. Own choice; a process that gets less is kept off them by others.
    pub oversubscribed_cpu: f64,

    /// CTX206: the share of the time that unexplained waiting of one site takes: 0.5. Own choice; below it is nothing
    /// unusual.
    pub off_cpu_share: f64,

    /// CTX207: the share of the time that waiting in one queue takes: 0.1. Own choice.
    pub queue_share: f64,
    /// CTX207: time in the queue per time of work on an item: 1. Own choice: an item waits longer than it is worked on.
    pub queue_wait_per_work: f64,
    /// CTX207: items: 50. Own choice.
    pub queue_items: u64,
    /// CTX207: the chance that a queue of steady length looks as if it grew: 0.01, the usual level.
    pub queue_growth_chance: f64,

    /// CTX208: context switches of the process per second and core, exclusive: 10,000. Own choice: at 2 us each they
    /// take 2 % of a core before what they do to its caches.
    pub switches_per_core: f64,
    /// CTX208: the kernel's share of the CPU time: 0.3. Own choice.
    pub switches_kernel_share: f64,
    /// CTX208: readings in a row: 10. Own choice.
    pub switches_readings: u64,
}

impl Default for ThreadThresholds {
    fn default() -> ThreadThresholds {
        ThreadThresholds {
            saturated_cpu: 0.9,
            saturated_wait: 0.1,
            saturated_ready: 1.1,
            saturated_readings: 5,
            lock_share: 0.05,
            lock_contended: 0.1,
            lock_wait_per_hold: 0.5,
            lock_acquisitions: 50,
            lock_wait: Duration::from_micros(5),
            held: Duration::from_millis(1),
            held_work: 0.5,
            held_share: 0.01,
            oversubscribed_ready: 2.0,
            oversubscribed_wait: 0.2,
            oversubscribed_switches: 1_000.0,
            oversubscribed_cpu: 0.5,
            off_cpu_share: 0.5,
            queue_share: 0.1,
            queue_wait_per_work: 1.0,
            queue_items: 50,
            queue_growth_chance: 0.01,
            switches_per_core: 10_000.0,
            switches_kernel_share: 0.3,
            switches_readings: 10,
        }
    }
}
