//! Whether threads run: their state at random moments, and the CPU time that the kernel charged to them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::linux::{self, ProcFile, TaskTimes};
use super::process::TotalsReader;
use crate::model::{Nanos, OnCpu, PathId, ThreadSightings, ThreadTop};

/// The most threads whose state is read in one tick; the others have their turn in the next. One read takes 2.5 us.
const READS_PER_TICK: usize = 8;

/// Up to this many threads have their CPU time read in every round, at 2 us each.
const READS_PER_ROUND: usize = 128;

/// In a process with more threads than [`READS_PER_ROUND`] they are listed only once in this many rounds.
const LISTING_PERIOD: u64 = 16;

/// The most threads whose CPU time is kept, ended ones included.
const MAX_THREADS: usize = 4096;

/// A thread's CPU time is read again when the last reading is older than this part of the time for which the thread is
/// known. So of a thread that ends between two intervals at most an eighth is missing, for a few reads in its life.
const REREAD_PART: u32 = 8;

/// The threads whose names start like this are the crate's own.
const OWN_PREFIX: &str = "cortex-";

/// Reads the files of threads. Absent where there is no `/proc`.
#[derive(Debug, Clone)]
pub(super) struct TaskReader {
    proc: ProcFile,
    own_tid: u32,
    /// Whether `schedstat` counts on this kernel.
    precise: bool,
}

impl TaskReader {
    /// Looks at the calling thread to see what this kernel tells of threads.
    pub(super) fn open() -> Option<TaskReader> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let own_tid = linux::own_tid()?;
        let mut proc = ProcFile::default();
        proc.task_state(own_tid)?;
        // This thread runs, so where it has no run time nothing has.
        let precise = proc.task_times(own_tid).is_some();
        Some(TaskReader {
            proc,
            own_tid,
            precise,
        })
    }

    /// Returns the CPU time of the thread that opened this.
    pub(super) fn own_cpu(&mut self) -> Option<Duration> {
        Some(self.used(self.own_tid)?.cpu)
    }

    fn used(&mut self, tid: u32) -> Option<Used> {
        if self.precise {
            self.proc.task_times(tid).map(Used::from)
        } else {
            self.proc.task_ticks(tid).map(Used::without_queue)
        }
    }

    fn runs(&mut self, tid: u32) -> Option<bool> {
        self.proc.task_state(tid).map(|state| state == 'R')
    }

    fn is_own(&mut self, tid: u32) -> Option<bool> {
        self.proc
            .task_name(tid)
            .map(|name| name.starts_with(OWN_PREFIX))
    }
}

/// Picks the threads of a tick and reads their states.
#[derive(Debug, Default)]
pub(super) struct StateProbe {
    /// The index after which the next tick goes on.
    last: Option<u32>,
    picked: Vec<(ThreadTop, Option<bool>)>,
}

impl StateProbe {
    /// Reads the state of some of the threads that are inside a span; returns whether there is any.
    pub(super) fn read(&mut self, tasks: &mut TaskReader, tops: &[ThreadTop]) -> bool {
        self.picked.clear();
        let inside = tops.iter().filter(|top| {
            top.path != PathId::ROOT && top.os_id.is_some_and(|tid| tid != tasks.own_tid)
        });
        self.picked.extend(inside.map(|&top| (top, None)));
        self.picked.sort_unstable_by_key(|(top, _)| top.index);
        let next = self
            .picked
            .partition_point(|(top, _)| Some(top.index) <= self.last);
        self.picked.rotate_left(next);
        self.picked.truncate(READS_PER_TICK);
        self.last = self.picked.last().map(|(top, _)| top.index);
        for (top, runs) in &mut self.picked {
            *runs = top.os_id.and_then(|tid| tasks.runs(tid));
        }
        !self.picked.is_empty()
    }

    /// Returns what was read of the threads that are still where they were.
    pub(super) fn confirmed<'a>(
        &'a self,
        tops: &'a [ThreadTop],
    ) -> impl Iterator<Item = (PathId, bool)> + 'a {
        self.picked
            .iter()
            .filter(|(top, _)| tops.contains(top))
            .filter_map(|(top, runs)| Some((top.path, (*runs)?)))
    }
}

/// What is known of the threads of this process.
#[derive(Debug)]
pub(super) struct ThreadBook {
    /// Absent until the sampler runs, and where threads cannot be read.
    reader: Option<TaskReader>,
    on_cpu: HashMap<PathId, OnCpu>,
    /// By [`ThreadTop::index`].
    known: HashMap<u32, CpuMeter>,
    /// Threads by their system id, to find the crate's own.
    tasks: HashMap<u32, Task>,
    /// How often the crate's own threads were looked for.
    rounds: u64,
    process: TotalsReader,
    process_base: Option<Duration>,
}

/// What a thread has used since its start.
#[derive(Debug, Clone, Copy)]
struct Used {
    cpu: Duration,
    /// Ready to run without a core; absent where the kernel does not count it.
    queued: Option<Duration>,
}

impl Used {
    const NOTHING: Used = Used {
        cpu: Duration::ZERO,
        queued: None,
    };

    fn without_queue(cpu: Duration) -> Used {
        Used { cpu, queued: None }
    }
}

impl From<TaskTimes> for Used {
    fn from(times: TaskTimes) -> Used {
        Used {
            cpu: times.ran,
            queued: Some(times.queued),
        }
    }
}

/// A thread's CPU time, and how long it waited for a core.
#[derive(Debug, Clone, Copy)]
struct CpuMeter {
    tid: u32,
    /// What the thread had used when it was first seen.
    base: Used,
    last: Used,
    first_read: Instant,
    last_read: Instant,
    ended: bool,
}

/// One thread of the process, known to the system but not to the capture.
#[derive(Debug, Clone, Copy)]
struct Task {
    /// Its meter if its name is one of the crate's.
    own: Option<CpuMeter>,
    /// How often the name was read. A new thread bears its parent's name for a moment, so one look is not enough.
    looks: u8,
    /// The last round in which it was listed.
    listed: u64,
}

/// How often a thread's name is read before it counts as settled.
const LOOKS: u8 = 2;

impl CpuMeter {
    fn start(tid: u32, used: Used, now: Instant) -> CpuMeter {
        CpuMeter {
            tid,
            base: used,
            last: used,
            first_read: now,
            last_read: now,
            ended: false,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let age = self.last_read.duration_since(self.first_read);
        !self.ended && now.duration_since(self.last_read) > age / REREAD_PART
    }

    fn update(&mut self, used: Option<Used>, now: Instant) {
        match used {
            // Less than before: the id has passed to another thread.
            Some(used) if used.cpu >= self.last.cpu => {
                self.last = used;
                self.last_read = now;
            }
            _ => self.ended = true,
        }
    }

    fn rebase(&mut self) {
        self.base = self.last;
        self.first_read = self.last_read;
    }

    /// Returns the CPU time; `None` if it was read only once, which says nothing about how much was used since.
    fn spent(&self) -> Option<Nanos> {
        (self.last_read > self.first_read)
            .then(|| Nanos::from(self.last.cpu.saturating_sub(self.base.cpu)))
    }

    /// Returns the time spent ready without a core, with the same condition.
    fn queued(&self) -> Option<Nanos> {
        let queued = self.last.queued?.saturating_sub(self.base.queued?);
        (self.last_read > self.first_read).then(|| Nanos::from(queued))
    }
}

impl ThreadBook {
    /// Starts to count now.
    pub(super) fn start() -> ThreadBook {
        let mut process = TotalsReader::default();
        let process_base = process.cpu();
        ThreadBook {
            reader: None,
            on_cpu: HashMap::new(),
            known: HashMap::new(),
            tasks: HashMap::new(),
            rounds: 0,
            process,
            process_base,
        }
    }

    /// Reads threads through this reader from now on.
    pub(super) fn read_with(&mut self, reader: TaskReader) {
        self.reader = Some(reader);
    }

    /// Counts the states of one tick.
    pub(super) fn count_states(&mut self, states: impl Iterator<Item = (PathId, bool)>) {
        for (path, runs) in states {
            let seen = self.on_cpu.entry(path).or_default();
            seen.samples += 1;
            seen.running += u64::from(runs);
        }
    }

    /// Reads the CPU time of the capture's threads: of all new ones, and of some whose reading has grown old.
    pub(super) fn read_cpu(&mut self, tops: &[ThreadTop]) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        let now = Instant::now();
        // Who is read now is not due for a while, so the others have their turn.
        let mut reads = READS_PER_TICK;
        for (index, tid) in tops.iter().filter_map(|top| Some((top.index, top.os_id?))) {
            if let Some(meter) = self.known.get_mut(&index) {
                if reads > 0 && meter.is_due(now) {
                    reads -= 1;
                    meter.update(reader.used(tid), now);
                }
            } else if self.known.len() < MAX_THREADS
                && let Some(used) = reader.used(tid)
            {
                self.known.insert(index, CpuMeter::start(tid, used, now));
            }
        }
    }

    /// Reads the CPU time of all threads that have not ended; of very many only those whose reading has grown old, unless
    /// this may be the last time.
    pub(super) fn read_all_cpu(&mut self, without_limit: bool) {
        let now = Instant::now();
        self.find_own(now);
        let Some(reader) = &mut self.reader else {
            return;
        };
        let own = self.tasks.values_mut().filter_map(|task| task.own.as_mut());
        let all = without_limit || self.known.len() <= READS_PER_ROUND;
        for meter in self.known.values_mut().chain(own) {
            if !meter.ended && (all || meter.is_due(now)) {
                meter.update(reader.used(meter.tid), now);
            }
        }
    }

    /// Finds the crate's own threads by their names.
    fn find_own(&mut self, now: Instant) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        self.rounds += 1;
        // The crate's own threads seldom come or go.
        if self.tasks.len() > READS_PER_ROUND && !self.rounds.is_multiple_of(LISTING_PERIOD) {
            return;
        }
        for tid in linux::tids() {
            let task = self.tasks.entry(tid).or_insert(Task {
                own: None,
                looks: 0,
                listed: 0,
            });
            task.listed = self.rounds;
            if task.own.is_none() && task.looks < LOOKS {
                task.looks += 1;
                if reader.is_own(tid) == Some(true) {
                    // It was born to the crate, so all that it has used counts.
                    task.own = Some(CpuMeter::start(tid, Used::NOTHING, now));
                }
            }
        }
        // The crate's own are few, and their CPU time is wanted after their end; others are forgotten.
        self.tasks
            .retain(|_, task| task.own.is_some() || task.listed == self.rounds);
    }

    /// Starts anew: CPU time counts from now on.
    pub(super) fn reset(&mut self) {
        self.on_cpu.clear();
        self.read_all_cpu(true);
        self.known.retain(|_, meter| !meter.ended);
        let own = self.tasks.values_mut().filter_map(|task| task.own.as_mut());
        for meter in self.known.values_mut().chain(own) {
            meter.rebase();
        }
        self.process_base = self.process.cpu();
    }

    /// Returns what was seen so far; reads the CPU time of the process anew.
    pub(super) fn sightings(&mut self) -> ThreadSightings {
        let process_cpu = self
            .process
            .cpu()
            .zip(self.process_base)
            .map(|(now, base)| Nanos::from(now.saturating_sub(base)));
        let own = self.tasks.values().filter_map(|task| task.own);
        ThreadSightings {
            on_cpu: self.on_cpu.clone(),
            cpu: self
                .known
                .iter()
                .filter_map(|(&index, meter)| Some((index, meter.spent()?)))
                .collect(),
            open: HashMap::new(),
            run_queue: self
                .known
                .iter()
                .filter_map(|(&index, meter)| Some((index, meter.queued()?)))
                .collect(),
            background_cpu: own
                .map(|meter| Nanos::from(meter.last.cpu.saturating_sub(meter.base.cpu)))
                .reduce(Nanos::saturating_add),
            process_cpu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(index: u32) -> ThreadTop {
        ThreadTop {
            index,
            // Beyond the largest id that Linux gives.
            os_id: Some((1 << 23) + index),
            path: PathId(1),
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn every_thread_has_its_turn() {
        let mut tasks = TaskReader::open().unwrap();
        let mut probe = StateProbe::default();
        let tops: Vec<ThreadTop> = (0..20).map(top).collect();
        let mut turns = [0; 20];
        for _ in 0..5 {
            probe.read(&mut tasks, &tops);
            for (top, _) in &probe.picked {
                turns[top.index as usize] += 1;
            }
        }
        assert_eq!(turns, [2; 20], "5 looks at 8 of 20");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_is_outside_all_spans_or_gone_is_not_counted() {
        let mut tasks = TaskReader::open().unwrap();
        let mut probe = StateProbe::default();
        let outside = ThreadTop {
            path: PathId::ROOT,
            ..top(1)
        };
        assert!(!probe.read(&mut tasks, &[outside]));
        assert!(probe.read(&mut tasks, &[top(2)]));
        assert_eq!(probe.confirmed(&[top(2)]).count(), 0, "no such thread");
    }

    fn used(cpu_millis: u64) -> Used {
        Used::without_queue(Duration::from_millis(cpu_millis))
    }

    #[test]
    fn waiting_for_a_core_counts_from_the_first_look_and_may_be_unknown() {
        let start = Instant::now();
        let waited = |millis| Used {
            queued: Some(Duration::from_millis(millis)),
            ..used(10)
        };
        let mut meter = CpuMeter::start(1, waited(7), start);
        assert_eq!(meter.queued(), None, "one reading says nothing");
        meter.update(Some(waited(12)), start + Duration::from_millis(50));
        assert_eq!(meter.queued(), Some(Nanos(5_000_000)));
        meter.update(Some(used(20)), start + Duration::from_millis(90));
        assert_eq!(meter.queued(), None);
    }

    #[test]
    fn the_cpu_time_of_an_ended_thread_stays() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut meter = CpuMeter::start(1, used(100), start);
        assert_eq!(meter.spent(), None, "one reading says nothing");
        meter.update(Some(used(130)), after(50));
        meter.update(None, after(60));
        assert_eq!(meter.spent(), Some(Nanos(30_000_000)));
        assert!(!meter.is_due(after(10_000)));
    }

    #[test]
    fn a_reused_thread_id_is_not_mistaken_for_the_thread() {
        let start = Instant::now();
        let mut meter = CpuMeter::start(1, used(0), start);
        meter.update(Some(used(40)), start + Duration::from_millis(50));
        meter.update(Some(used(2)), start + Duration::from_millis(90));
        assert!(meter.ended);
        assert_eq!(meter.spent(), Some(Nanos(40_000_000)));
    }

    #[test]
    fn the_cpu_time_of_a_young_thread_is_read_often() {
        let start = Instant::now();
        let mut meter = CpuMeter::start(1, used(0), start);
        let mut reads = 0;
        for tick in 1..=100 {
            let now = start + tick * Duration::from_millis(10);
            if meter.is_due(now) {
                meter.update(Some(Used::without_queue(now - start)), now);
                reads += 1;
            }
            let missing = (now - start).saturating_sub(meter.last.cpu);
            assert!(missing <= (now - start) / 8, "tick {tick}");
        }
        assert!(reads < 35, "{reads} reads in 100 ticks");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn where_run_times_are_not_counted_the_ticks_are() {
        let mut reader = TaskReader::open().unwrap();
        reader.precise = false;
        let tid = reader.own_tid;
        let begun = Instant::now();
        let mut used = reader.own_cpu().unwrap();
        while used < Duration::from_millis(30) && begun.elapsed() < Duration::from_secs(30) {
            used = reader.own_cpu().unwrap();
        }
        let precise = ProcFile::default().task_times(tid).unwrap().ran;
        assert!(used >= Duration::from_millis(30), "{used:?}");
        assert!(
            used <= precise + Duration::from_millis(20),
            "{used:?} of {precise:?}"
        );
    }
}
