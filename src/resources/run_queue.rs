//! How long the threads of this process were ready to run without a core, and how many were ready on average.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use super::linux::{self, ProcFile, TaskTimes};
use super::{RATE_WINDOW, Readings, ResourceSource};
use crate::model::Unit;

/// The most threads that are read in one round, at 2 us each. Of more threads each has its turn, and what it did since its
/// last one counts then: the mean over many rounds stays right.
const READS: usize = 128;

/// With more threads than [`READS`] they are listed only once in this many rounds.
const LISTING_PERIOD: u64 = 16;

/// Reads the scheduler's counters of all threads, those without spans included.
///
/// What a thread did after its last reading is lost with it, so a program whose threads live shorter than a round shows
/// less than it waits.
#[derive(Debug, Default)]
pub(crate) struct RunQueueSource {
    proc: ProcFile,
    threads: Ledger,
    tids: Vec<u32>,
    /// Where in `tids` the next round goes on.
    next: usize,
    rounds: u64,
    last: Option<Instant>,
}

impl ResourceSource for RunQueueSource {
    fn name(&self) -> &str {
        "run queue"
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        if !cfg!(target_os = "linux") {
            return Ok(());
        }
        let now = Instant::now();
        let elapsed = self.last.map(|last| now.duration_since(last));
        if elapsed.is_some_and(|elapsed| elapsed < RATE_WINDOW) {
            return Ok(());
        }
        let spent = self.read();
        self.last = Some(now);
        if let (Some(spent), Some(elapsed)) = (spent, elapsed) {
            record(readings, spent, elapsed);
        }
        Ok(())
    }
}

impl RunQueueSource {
    /// Returns what the threads did since they were read before; `None` where the kernel does not count it.
    fn read(&mut self) -> Option<TaskTimes> {
        if self.tids.len() <= READS || self.rounds.is_multiple_of(LISTING_PERIOD) {
            self.tids = linux::tids();
            self.threads.keep(&self.tids);
        }
        self.rounds += 1;
        let count = self.tids.len().min(READS);
        let mut sum: Option<TaskTimes> = None;
        for step in 0..count {
            let tid = self.tids[(self.next + step) % self.tids.len()];
            let Some(times) = self.proc.task_times(tid) else {
                continue;
            };
            let spent = self.threads.note(tid, times);
            let sum = sum.get_or_insert_default();
            sum.ran += spent.ran;
            sum.queued += spent.queued;
        }
        self.next = (self.next + count) % self.tids.len().max(1);
        self.threads.is_begun = true;
        sum
    }
}

/// Who is on a core or in a queue is ready, so both times together per second are the mean number of ready threads.
fn record(readings: &mut Readings, spent: TaskTimes, elapsed: Duration) {
    let waiting = spent.queued.as_secs_f64() / elapsed.as_secs_f64();
    let running = spent.ran.as_secs_f64() / elapsed.as_secs_f64();
    readings.record("process.run_queue_wait", Unit::Count, waiting);
    readings.record("process.runnable_threads", Unit::Count, waiting + running);
}

/// The counters of each thread when it was read last.
#[derive(Debug, Default)]
struct Ledger {
    known: HashMap<u32, TaskTimes>,
    /// From the second listing on a thread that is not known is new, so all that it did counts.
    is_begun: bool,
}

impl Ledger {
    /// Returns what a thread did since it was read before.
    fn note(&mut self, tid: u32, now: TaskTimes) -> TaskTimes {
        match self.known.insert(tid, now) {
            Some(before) if before.ran <= now.ran && before.queued <= now.queued => TaskTimes {
                ran: now.ran - before.ran,
                queued: now.queued - before.queued,
            },
            // Less than before: the id has passed to a new thread.
            Some(_) => now,
            // In a process with more threads than one round reads, nobody knows which of them are new.
            None if self.is_begun && self.known.len() <= READS => now,
            None => TaskTimes::default(),
        }
    }

    fn keep(&mut self, tids: &[u32]) {
        if self.known.len() > tids.len() {
            let listed: std::collections::HashSet<u32> = tids.iter().copied().collect();
            self.known.retain(|tid, _| listed.contains(tid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ran: u64, queued: u64) -> TaskTimes {
        TaskTimes {
            ran: Duration::from_millis(ran),
            queued: Duration::from_millis(queued),
        }
    }

    #[test]
    fn only_what_happened_since_the_start_counts() {
        let mut threads = Ledger::default();
        assert_eq!(threads.note(1, times(500, 40)), times(0, 0));
        threads.is_begun = true;
        assert_eq!(threads.note(1, times(520, 45)), times(20, 5));
        assert_eq!(threads.note(2, times(7, 3)), times(7, 3), "a new thread");
        assert_eq!(
            threads.note(1, times(2, 1)),
            times(2, 1),
            "a new thread with an old id"
        );
    }

    #[test]
    fn seconds_per_second_are_threads() {
        let mut readings = Readings::default();
        record(&mut readings, times(500, 1_500), Duration::from_millis(250));
        let expected = [
            ("process.run_queue_wait".to_owned(), Unit::Count, 6.0),
            ("process.runnable_threads".to_owned(), Unit::Count, 8.0),
        ];
        assert_eq!(readings.values, expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_round_reads_a_bounded_number_of_threads_and_all_have_their_turn() {
        let mut source = RunQueueSource::default();
        let own = linux::own_tid().unwrap();
        source.read();
        // As if they were listed: most of them are gone, which costs the same read.
        source.tids = (0..3 * READS as u32).map(|at| (1 << 23) + at).collect();
        source.tids.push(own);
        source.threads.known.clear();
        source.rounds = 1;
        let turns: Vec<bool> = (0..4)
            .map(|_| {
                source.threads.known.remove(&own);
                source.read();
                source.threads.known.contains_key(&own)
            })
            .collect();
        assert_eq!(turns, [false, false, false, true]);
    }
}
