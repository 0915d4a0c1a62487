//! The sampler as its owner sees it.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::linux;
use super::{Callback, Observed, Readings, ResourceSource, Sampler, SamplerSettings};
use crate::clock::{Clock, ManualClock};
use crate::model::{Failure, Nanos, PathId, Series, ThreadTop, Unit};

/// Longer than any wait that succeeds takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one attempt at a round waits.
const WAIT: Duration = Duration::from_millis(200);

/// An interval that does not pass in a test: rounds are asked for.
const NEVER: Duration = Duration::from_secs(3600);

struct Source<F>(&'static str, F);

impl<F> ResourceSource for Source<F>
where
    F: FnMut(&mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> + Send + 'static,
{
    fn name(&self) -> &str {
        self.0
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        (self.1)(readings)
    }
}

fn gauge(name: &str, mut value: impl FnMut() -> f64 + Send + 'static) -> Box<dyn ResourceSource> {
    Box::new(Callback::new(name, Unit::Count, move || Some(value())))
}

fn settings(sources: Vec<Box<dyn ResourceSource>>) -> SamplerSettings {
    SamplerSettings {
        open: Box::new(|_| ()),
        interval: Some(NEVER),
        sources,
        clock: Clock::start(),
        tops: Box::new(|_| {}),
        deliver: Box::new(|_| {}),
        on_thread_start: Box::new(|| {}),
    }
}

fn started(sources: Vec<Box<dyn ResourceSource>>) -> Sampler {
    Sampler::start(settings(sources)).unwrap()
}

/// Asks for a round until there was one: on a busy machine the bounded wait may end first.
fn sample(sampler: &Sampler) {
    eventually("a round", || sampler.sample_now(WAIT));
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "still waiting for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn series<'a>(observed: &'a Observed, name: &str) -> Option<&'a Series> {
    observed.series.iter().find(|series| series.name == name)
}

/// Returns what sources reported, without the wait that a busy machine cut short.
fn failures(observed: &Observed) -> Vec<Failure> {
    let told = |failure: &&Failure| !failure.message.starts_with("did not return");
    observed.failures.iter().filter(told).cloned().collect()
}

#[test]
fn a_panicking_source_is_not_asked_again_and_does_not_stop_the_next() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let broken = Source("broken", move |readings: &mut Readings| {
        readings.record("half", Unit::Count, 1.0);
        count.fetch_add(1, Ordering::Relaxed);
        panic!("out of cheese");
    });
    let sampler = started(vec![Box::new(broken), gauge("next", || 1.0)]);
    for _ in 0..3 {
        sample(&sampler);
    }
    let observed = sampler.observed();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(series(&observed, "next").unwrap().samples >= 3);
    assert_eq!(series(&observed, "half"), None);
    let failures = failures(&observed);
    let [failure] = failures.as_slice() else {
        panic!("{failures:?}");
    };
    assert_eq!(failure.name, "broken");
    assert!(failure.message.contains("out of cheese"), "{failure:?}");
}

#[test]
fn a_failing_source_is_reported_once_and_asked_again() {
    let mut asked = 0;
    let flaky = Source("flaky", move |readings: &mut Readings| {
        asked += 1;
        readings.record("asked", Unit::Count, f64::from(asked));
        Err(format!("attempt {asked}").into())
    });
    let sampler = started(vec![Box::new(flaky)]);
    for _ in 0..3 {
        sample(&sampler);
    }
    let observed = sampler.observed();
    assert!(series(&observed, "asked").unwrap().max >= 3.0);
    let failures = failures(&observed);
    let [failure] = failures.as_slice() else {
        panic!("{failures:?}");
    };
    assert_eq!(
        (failure.name.as_str(), failure.message.as_str()),
        ("flaky", "attempt 1")
    );
}

#[test]
fn an_error_that_cannot_be_printed_does_not_stop_the_next_source() {
    #[derive(Debug)]
    struct Unprintable;
    impl fmt::Display for Unprintable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("no words")
        }
    }
    impl Error for Unprintable {}

    let source = Source("mute", |_: &mut Readings| Err(Unprintable.into()));
    let sampler = started(vec![Box::new(source), gauge("next", || 1.0)]);
    sample(&sampler);
    sample(&sampler);
    let observed = sampler.observed();
    assert!(series(&observed, "next").unwrap().samples >= 2);
    assert_eq!(failures(&observed)[0].name, "mute");
}

#[test]
fn an_absent_value_makes_no_series() {
    let absent = Callback::new("absent", Unit::Count, || None);
    let sampler = started(vec![
        Box::new(absent),
        gauge("nan", || f64::NAN),
        gauge("zero", || 0.0),
    ]);
    sample(&sampler);
    let observed = sampler.observed();
    let names: Vec<&str> = observed
        .series
        .iter()
        .map(|series| series.name.as_str())
        .collect();
    assert_eq!(names, ["zero"], "zero is a value");
}

#[test]
fn what_is_kept_is_what_was_delivered() {
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&delivered);
    let mut next = 0.0;
    let mut settings = settings(vec![
        gauge("depth", move || {
            next += 1.0;
            next
        }),
        gauge("depth", || 1e9),
    ]);
    settings.deliver = Box::new(move |samples| {
        let values = samples
            .iter()
            .map(|sample| (sample.series.to_owned(), sample.value));
        sent.lock().unwrap().extend(values);
    });
    let sampler = Sampler::start(settings).unwrap();
    for _ in 0..5 {
        sample(&sampler);
    }
    assert!(sampler.stop(PATIENCE));
    let observed = sampler.observed();
    let points = &series(&observed, "depth").unwrap().points;
    let kept: Vec<(String, f64)> = points
        .iter()
        .map(|point| ("depth".to_owned(), point.mean))
        .collect();
    assert_eq!(*delivered.lock().unwrap(), kept);
    assert_eq!(
        failures(&observed).len(),
        1,
        "the second source may not write into the first one's series"
    );
}

#[test]
fn a_clock_that_steps_back_does_not_turn_a_series_around() {
    let clock = ManualClock::new();
    let mut settings = settings(vec![gauge("g", || 1.0)]);
    settings.clock = Clock::manual(clock.clone());
    let sampler = Sampler::start(settings).unwrap();
    for millis in [5, 9, 2, 12] {
        clock.set(Duration::from_millis(millis));
        sample(&sampler);
    }
    let observed = sampler.observed();
    let times: Vec<Nanos> = observed.series[0]
        .points
        .iter()
        .map(|point| point.at)
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times.last(), Some(&Nanos(12_000_000)));
}

#[test]
fn a_reset_forgets_readings_and_keeps_failures() {
    let broken = Source("broken", |_: &mut Readings| Err("no".into()));
    let sampler = started(vec![gauge("g", || 1.0), Box::new(broken)]);
    sample(&sampler);
    sampler.reset();
    let observed = sampler.observed();
    assert!(observed.series.is_empty());
    assert_eq!(failures(&observed).len(), 1);
    sample(&sampler);
    assert_eq!(sampler.observed().series[0].samples, 1);
}

/// A source that hangs until it is let go, and says when it was dropped.
struct Stuck {
    release: Receiver<()>,
    is_dropped: Arc<AtomicBool>,
}

impl ResourceSource for Stuck {
    fn name(&self) -> &str {
        "stuck"
    }

    fn sample(&mut self, _: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = self.release.recv();
        Ok(())
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Release);
    }
}

#[test]
fn a_source_that_hangs_delays_stop_only_to_the_deadline() {
    let (let_go, release) = mpsc::channel();
    let is_dropped = Arc::new(AtomicBool::new(false));
    let stuck = Stuck {
        release,
        is_dropped: Arc::clone(&is_dropped),
    };
    let sampler = started(vec![gauge("before", || 1.0), Box::new(stuck)]);
    eventually("the source before it", || {
        series(&sampler.observed(), "before").is_some()
    });
    assert!(!sampler.sample_now(WAIT));
    assert!(!sampler.stop(Duration::from_millis(20)));
    let failures = sampler.observed().failures;
    let named: Vec<&str> = failures
        .iter()
        .map(|failure| failure.name.as_str())
        .collect();
    assert_eq!(named, ["stuck"], "once, though it was waited for twice");

    drop(let_go);
    assert!(sampler.stop(PATIENCE));
    assert!(
        is_dropped.load(Ordering::Acquire),
        "sources are gone when the thread has ended"
    );
    assert!(
        sampler.stop(Duration::ZERO),
        "a second stop has nothing to do"
    );
}

#[test]
fn dropping_the_sampler_does_not_wait_for_a_source() {
    let (let_go, release) = mpsc::channel();
    let is_dropped = Arc::new(AtomicBool::new(false));
    let stuck = Stuck {
        release,
        is_dropped: Arc::clone(&is_dropped),
    };
    drop(started(vec![Box::new(stuck)]));
    assert!(!is_dropped.load(Ordering::Acquire));
    drop(let_go);
    eventually("the thread to end", || is_dropped.load(Ordering::Acquire));
}

#[test]
fn a_sampler_that_was_stopped_takes_no_more_readings() {
    let sampler = started(vec![gauge("g", || 1.0)]);
    assert!(sampler.stop(PATIENCE));
    let before = sampler.observed();
    assert!(!sampler.sample_now(WAIT));
    assert_eq!(sampler.observed().series, before.series);
}

#[cfg(target_os = "linux")]
mod on_linux {
    use super::*;
    use crate::resources::standard_sources;

    /// A thread that runs, or sleeps, until it is dropped.
    struct Worker {
        tid: u32,
        end: Option<mpsc::Sender<()>>,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Worker {
        fn start(spins: bool) -> Worker {
            let (end, ended) = mpsc::channel::<()>();
            let (send, tid) = mpsc::channel();
            let thread = thread::spawn(move || {
                send.send(linux::own_tid().unwrap()).unwrap();
                if spins {
                    while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {}
                } else {
                    let _ = ended.recv();
                }
            });
            Worker {
                tid: tid.recv().unwrap(),
                end: Some(end),
                thread: Some(thread),
            }
        }

        fn top(&self, index: u32) -> ThreadTop {
            ThreadTop {
                index,
                os_id: Some(self.tid),
                path: PathId(index),
            }
        }
    }

    impl Drop for Worker {
        fn drop(&mut self) {
            self.end.take();
            if let Some(thread) = self.thread.take() {
                thread.join().unwrap();
            }
        }
    }

    #[test]
    fn a_spinning_thread_is_seen_running_and_a_sleeping_one_is_not() {
        const SPINS: u32 = 1;
        const SLEEPS: u32 = 2;
        let (spinner, sleeper) = (Worker::start(true), Worker::start(false));
        let tops = [spinner.top(SPINS), sleeper.top(SLEEPS)];
        let mut settings = settings(vec![]);
        settings.tops = Box::new(move |all| all.extend(tops));
        let sampler = Sampler::start(settings).unwrap();
        let on_cpu = |index| {
            sampler
                .observed()
                .sightings
                .on_cpu
                .get(&PathId(index))
                .copied()
                .unwrap_or_default()
        };
        eventually("20 looks at both", || {
            on_cpu(SPINS).samples >= 20 && on_cpu(SLEEPS).samples >= 20
        });
        assert!(on_cpu(SPINS).share() >= 0.9, "{:?}", on_cpu(SPINS));
        assert!(on_cpu(SLEEPS).share() <= 0.1, "{:?}", on_cpu(SLEEPS));

        let cpu = || sampler.observed().sightings.cpu;
        eventually("CPU time of the spinner", || {
            cpu().get(&SPINS) >= Some(&Nanos(50_000_000))
        });
        assert!(cpu()[&SLEEPS] < Nanos(10_000_000), "{:?}", cpu());

        let before = cpu()[&SPINS];
        drop((spinner, sleeper));
        sample(&sampler);
        let kept = cpu()[&SPINS];
        assert!(kept >= before, "{kept} after the end, {before} before");
        sampler.reset();
        assert_eq!(cpu().get(&SPINS), None, "ended before the reset");
    }

    #[test]
    fn a_thread_that_moved_on_during_the_look_is_not_counted() {
        let worker = Worker::start(true);
        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        let top = worker.top(1);
        let mut settings = settings(vec![]);
        settings.tops = Box::new(move |all| {
            let call = count.fetch_add(1, Ordering::Relaxed);
            all.push(ThreadTop {
                path: PathId(1 + u32::try_from(call).unwrap()),
                ..top
            });
        });
        let sampler = Sampler::start(settings).unwrap();
        eventually("ten looks", || calls.load(Ordering::Relaxed) >= 20);
        assert!(sampler.observed().sightings.on_cpu.is_empty());
    }

    #[test]
    fn the_real_sources_give_plausible_values() {
        let cores = thread::available_parallelism().unwrap().get();
        // Twice the cores, to get most of the machine even where others work too.
        let workers: Vec<Worker> = (0..2 * cores).map(|_| Worker::start(true)).collect();
        let mut settings = settings(standard_sources());
        settings.interval = Some(Duration::from_millis(100));
        let sampler = Sampler::start(settings).unwrap();
        let max = |name: &str| series(&sampler.observed(), name).map(|series| series.max);
        eventually("most of a core", || {
            max("process.cpu_one_core") >= Some(70.0)
        });

        // The round with that reading may still be going on.
        sample(&sampler);
        let observed = sampler.observed();
        assert_eq!(failures(&observed), []);
        let of_one = max("process.cpu_one_core").unwrap();
        assert!(of_one <= 110.0 * cores as f64, "{of_one}");
        let last = |name: &str| {
            let series = series(&observed, name).unwrap_or_else(|| panic!("no {name}"));
            series.points.last().unwrap().mean
        };
        assert!(last("process.cpu") <= 110.0);
        assert!(last("process.rss") > 1e5);
        assert!(last("process.virtual") >= last("process.rss"));
        assert!(last("process.threads") > workers.len() as f64);
        // Each core has two threads that never sleep, whatever others do.
        assert!(max("process.runnable_threads").unwrap() > cores as f64);
        assert!(max("process.run_queue_wait") > Some(0.2));
        for name in [
            "process.cpu_user",
            "process.cpu_system",
            "process.voluntary_switches",
            "process.involuntary_switches",
            "process.major_faults",
            "process.disk_read",
            "process.disk_write",
            "system.net_received",
            "system.net_sent",
        ] {
            assert!(last(name) >= 0.0, "{name}");
        }

        let sightings = observed.sightings;
        assert!(
            sightings.process_cpu >= Some(Nanos(10_000_000)),
            "{sightings:?}"
        );
        sample(&sampler);
        eventually("the sampler's own CPU time", || {
            sampler.observed().sightings.background_cpu > Some(Nanos::ZERO)
        });
    }

    #[test]
    fn counting_open_files_does_not_count_itself() {
        // Other tests open and close files meanwhile, so one agreement is what can be asked for.
        eventually("both counts to agree", || {
            let listed = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
            linux::open_files() == Some(listed)
        });
    }

    #[cfg(feature = "sysinfo")]
    #[test]
    fn the_machine_is_read_and_its_first_cpu_reading_discarded() {
        let sampler = started(standard_sources());
        sample(&sampler);
        let observed = sampler.observed();
        let last = |name: &str| series(&observed, name).unwrap().points.last().unwrap().mean;
        assert_eq!(series(&observed, "system.cpu"), None);
        assert!(last("system.memory_used") > 1e7);
        assert!((0.0..=100.0).contains(&last("system.memory_used_percent")));
        assert!(last("system.load1") >= 0.0);
        eventually("a second CPU reading", || {
            sample(&sampler);
            series(&sampler.observed(), "system.cpu").is_some()
        });
        let cpu = series(&sampler.observed(), "system.cpu").unwrap().clone();
        assert!((0.0..=100.0).contains(&cpu.mean), "{cpu:?}");
    }
}
