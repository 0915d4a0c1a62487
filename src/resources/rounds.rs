//! What the thread `cortex-sample` does: asks the sources at every interval, looks at the threads in between.

use std::any::Any;
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use super::open_spans::OpenSpans;
use super::sampler::{CountOpen, Deliver, Observed, Order, ReadTops, SamplerSettings, Shared};
use super::series::{MAX_SERIES, Refusal, SeriesTable};
use super::threads::{StateProbe, TaskReader, ThreadBook};
use super::{Readings, ResourceSource};
use crate::clock::Clock;
use crate::model::{Failure, Nanos, Sample, SiteId, ThreadTop};

/// The mean time between two looks at the threads. A site needs 20 looks before a rule speaks of it, which takes 0.2 s
/// this way. A hundred looks a second took 0.6 % of a core on a busy 2-core machine.
const TICK: Duration = Duration::from_millis(10);

/// The longest time between two looks, kept while no thread is inside a span or where looking is dear.
const MAX_TICK: Duration = Duration::from_millis(50);

/// The share of a core above which looks get rarer, down to one in [`MAX_TICK`]. The rounds are not held back, so with very
/// many threads the sampler takes more than this.
const BUDGET: f64 = 0.004;

/// The shortest time over which the thread's own CPU time is judged.
const MIN_REGULATED: Duration = Duration::from_millis(100);

/// The shortest interval at which sources are asked.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The longest interval; a year from now no longer fits into every clock.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Store {
    series: SeriesTable,
    threads: ThreadBook,
    open: OpenSpans,
    failures: Vec<Failure>,
    has_refused: bool,
    /// The time of the last reading. A manual clock may step back, series may not.
    last_at: Nanos,
}

impl Store {
    pub(super) fn start() -> Store {
        Store {
            series: SeriesTable::default(),
            threads: ThreadBook::start(),
            open: OpenSpans::default(),
            failures: Vec::new(),
            has_refused: false,
            last_at: Nanos::ZERO,
        }
    }

    pub(super) fn observed(&mut self) -> Observed {
        let mut sightings = self.threads.sightings();
        sightings.open = self.open.readings();
        Observed {
            series: self.series.to_vec(),
            sightings,
            failures: self.failures.clone(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.series.clear();
        self.threads.reset();
        self.open.reset();
        self.last_at = Nanos::ZERO;
    }

    /// Notes that the capture gave up waiting for a source, unless something is known of that source already.
    pub(super) fn note_slow(&mut self, name: String, waited: Duration) {
        if self.failures.iter().all(|failure| failure.name != name) {
            let message = format!("did not return within {waited:?} while the capture waited");
            self.failures.push(Failure::new(name, message));
        }
    }

    /// Adds the readings of one source and returns those that became part of a series.
    fn record<'a>(&mut self, owner: usize, slot: &'a mut Slot, now: Nanos) -> Vec<Sample<'a>> {
        let at = now.max(self.last_at);
        self.last_at = at;
        let mut samples = Vec::with_capacity(slot.readings.values.len());
        for (name, unit, value) in &slot.readings.values {
            let sample = Sample::new(name, *unit, at, *value);
            match self.series.record(owner, sample) {
                Ok(()) => samples.push(sample),
                Err(Refusal::Taken) if !slot.was_refused => {
                    slot.was_refused = true;
                    self.failures.push(Failure::new(
                        slot.name.clone(),
                        format!("the series {name:?} is another source's or has another unit; choose another name"),
                    ));
                }
                Err(Refusal::TooMany) if !self.has_refused => {
                    self.has_refused = true;
                    self.failures.push(Failure::new(
                        slot.name.clone(),
                        format!("there are {MAX_SERIES} series already; {name:?} and all further ones are left out"),
                    ));
                }
                Err(_) => {}
            }
        }
        samples
    }
}

/// A source and what came of it.
struct Slot {
    name: String,
    /// Absent after a panic.
    source: Option<Box<dyn ResourceSource>>,
    readings: Readings,
    has_failed: bool,
    /// Whether it was told that a series is not its own.
    was_refused: bool,
}

impl Slot {
    fn new(number: usize, source: Box<dyn ResourceSource>) -> Slot {
        let name = panic::catch_unwind(AssertUnwindSafe(|| source.name().to_owned()));
        Slot {
            name: name.unwrap_or_else(|_| format!("source {number}")),
            source: Some(source),
            readings: Readings::default(),
            has_failed: false,
            was_refused: false,
        }
    }

    /// Asks the source; returns what is to be reported about it.
    fn ask(&mut self) -> Option<Failure> {
        self.readings.values.clear();
        let mut source = self.source.take()?;
        let readings = &mut self.readings;
        let has_failed = self.has_failed;
        // The error is the source's own too: printing and dropping it may panic as well.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let error = source.sample(readings).err().filter(|_| !has_failed)?;
            Some(with_causes(error.as_ref()))
        }));
        let message = match outcome {
            Ok(message) => {
                self.source = Some(source);
                message?
            }
            Err(payload) => {
                // Half of a round is no round.
                self.readings.values.clear();
                // What panicked once may panic again when it is dropped.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(source)));
                format!("panicked and is not asked again: {}", text_of(&*payload))
            }
        };
        self.has_failed = true;
        Some(Failure::new(self.name.clone(), message))
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// The state of the thread.
pub(super) struct Rounds<'s> {
    shared: &'s Shared,
    clock: Clock,
    slots: Vec<Slot>,
    deliver: Box<Deliver>,
    open: OpenCount,
    looks: Option<Looks>,
}

impl Rounds<'_> {
    /// Works until told to stop.
    pub(super) fn run(shared: &Shared, settings: SamplerSettings) {
        (settings.on_thread_start)();
        let slots = (1..).zip(settings.sources);
        let mut rounds = Rounds {
            shared,
            clock: settings.clock,
            slots: slots
                .map(|(number, source)| Slot::new(number, source))
                .collect(),
            deliver: settings.deliver,
            open: OpenCount::new(settings.open),
            looks: settings
                .interval
                .and_then(|_| TaskReader::open())
                .map(|tasks| Looks::new(tasks, settings.tops)),
        };
        if let Some(looks) = &rounds.looks {
            shared.store().threads.read_with(looks.tasks.clone());
        }

        let Some(interval) = settings.interval else {
            return rounds.on_demand();
        };
        let interval = interval.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let mut next_round = Instant::now();
        loop {
            let next_look = rounds.looks.as_ref().map(|looks| looks.next);
            let order = shared.rest(next_look.map_or(next_round, |look| look.min(next_round)));
            match order {
                Order::Stop => return,
                Order::Sample(ticket) => {
                    rounds.sample(true);
                    shared.answer(ticket);
                }
                Order::Continue => {}
            }
            let now = Instant::now();
            if now >= next_round {
                if order == Order::Continue {
                    rounds.sample(false);
                }
                next_round += interval;
                // Rounds that a slow source made late are left out, not made up for.
                let done = Instant::now();
                if next_round <= done {
                    next_round = done + interval;
                }
            }
            if let Some(looks) = &mut rounds.looks
                && now >= looks.next
            {
                looks.take(shared);
            }
        }
    }

    /// Takes a round whenever somebody asks, until told to stop.
    fn on_demand(&mut self) {
        loop {
            match self.shared.rest(Instant::now() + MAX_INTERVAL) {
                Order::Stop => return,
                Order::Sample(ticket) => {
                    self.sample(true);
                    self.shared.answer(ticket);
                }
                Order::Continue => {}
            }
        }
    }

    /// Takes one round of readings; one that was asked for may be the last.
    fn sample(&mut self, is_asked: bool) {
        if let Some(looks) = &mut self.looks {
            looks.list();
            looks.regulate();
            let mut store = self.shared.store();
            store.threads.read_cpu(&looks.tops_now);
            store.threads.read_all_cpu(is_asked);
        }
        if let Some(counts) = self.open.take(is_asked) {
            let now = self.clock.now();
            let mut store = self.shared.store();
            let at = now.max(store.last_at);
            store.last_at = at;
            store.open.record(at, counts);
        }
        for (owner, slot) in self.slots.iter_mut().enumerate() {
            if !self.shared.asking(Some(slot.name.clone())) {
                break;
            }
            let failure = slot.ask();
            self.shared.asking(None);
            let now = self.clock.now();
            let mut store = self.shared.store();
            if let Some(failure) = failure {
                store.failures.push(failure);
            }
            let samples = store.record(owner, slot, now);
            drop(store);
            if !samples.is_empty() {
                (self.deliver)(&samples);
            }
        }
    }
}

/// Counts open spans in the rounds, more rarely where that takes long because there are very many.
struct OpenCount {
    count: Box<CountOpen>,
    counts: HashMap<SiteId, u64>,
    due: Instant,
}

impl OpenCount {
    fn new(count: Box<CountOpen>) -> OpenCount {
        OpenCount {
            count,
            counts: HashMap::new(),
            due: Instant::now(),
        }
    }

    /// Returns the counts, unless it is too early for them and nobody asked.
    fn take(&mut self, is_asked: bool) -> Option<&HashMap<SiteId, u64>> {
        let begun = Instant::now();
        if begun < self.due && !is_asked {
            return None;
        }
        self.counts.clear();
        (self.count)(&mut self.counts);
        let done = Instant::now();
        self.due = done + done.duration_since(begun).div_f64(BUDGET);
        Some(&self.counts)
    }
}

/// Looks at the threads between the rounds.
struct Looks {
    tasks: TaskReader,
    tops: Box<ReadTops>,
    probe: StateProbe,
    tops_now: Vec<ThreadTop>,
    tops_after: Vec<ThreadTop>,
    next: Instant,
    pause: Duration,
    /// The shortest pause that keeps within the [`BUDGET`].
    shortest: Duration,
    /// When the thread's own CPU time was last read, and what it was.
    spent: Option<(Instant, Duration)>,
    random: RandomState,
    taken: u64,
}

impl Looks {
    fn new(tasks: TaskReader, tops: Box<ReadTops>) -> Looks {
        Looks {
            tasks,
            tops,
            probe: StateProbe::default(),
            tops_now: Vec::new(),
            tops_after: Vec::new(),
            next: Instant::now(),
            pause: TICK,
            shortest: TICK,
            spent: None,
            random: RandomState::new(),
            taken: 0,
        }
    }

    fn list(&mut self) {
        self.tops_now.clear();
        (self.tops)(&mut self.tops_now);
    }

    /// Counts which threads run, and says when to look again.
    fn take(&mut self, shared: &Shared) {
        let begun = Instant::now();
        self.list();
        let inside = self.probe.read(&mut self.tasks, &self.tops_now);
        self.tops_after.clear();
        if inside {
            // A thread that has moved on meanwhile was not seen where it is now, nor where it was.
            (self.tops)(&mut self.tops_after);
        }
        let mut store = shared.store();
        store.threads.read_cpu(&self.tops_now);
        let states = self.probe.confirmed(&self.tops_after);
        store.threads.count_states(states);
        drop(store);

        let wanted = if inside {
            self.shortest
        } else {
            self.pause * 2
        };
        self.pause = wanted.clamp(self.shortest, MAX_TICK);
        self.next = begun + self.jittered(self.pause);
    }

    /// Adapts the pauses to what this thread has cost of late.
    fn regulate(&mut self) {
        let now = Instant::now();
        let Some(spent) = self.tasks.own_cpu() else {
            return;
        };
        if let Some((since, before)) = self.spent {
            let elapsed = now.duration_since(since);
            if elapsed < MIN_REGULATED {
                return;
            }
            let share = spent.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64();
            let factor = (share / BUDGET).clamp(0.5, 2.0);
            self.shortest = self.shortest.mul_f64(factor).clamp(TICK, MAX_TICK);
        }
        self.spent = Some((now, spent));
    }

    /// Varies a pause by up to a quarter: in step with a timer of the program, every look would find the same thing.
    fn jittered(&mut self, pause: Duration) -> Duration {
        self.taken += 1;
        let [part, ..] = self.random.hash_one(self.taken).to_le_bytes();
        pause * 3 / 4 + pause * u32::from(part) / 512
    }
}
