//! A `SpanExporter` that notes what it is given, and behaves as a test tells it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// What a call does.
#[derive(Clone, Default)]
pub enum Act {
    /// Takes the batch.
    #[default]
    Take,
    Fail(&'static str),
    TimeOut,
    SayShutDown,
    Panic(&'static str),
    /// Never answers, and can be ended.
    Hang,
    /// Takes the batch after it has held its thread up so long.
    Block(Duration),
    /// Takes the batch after an await of so long.
    Wait(Duration),
    /// Takes the batch after it has done something.
    Do(Arc<dyn Fn() + Send + Sync>),
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Act")
    }
}

#[derive(Debug, Default)]
pub struct Notes {
    pub script: VecDeque<Act>,
    pub otherwise: Act,
    /// Takes so long, and then fails if it says something.
    pub shutdown: (Duration, Option<&'static str>),
    pub calls: Vec<Instant>,
    pub running: usize,
    /// Calls that were dropped before they had an answer.
    pub ended: usize,
    pub taken: Vec<SpanData>,
    pub threads: Vec<String>,
    pub resources: Vec<Resource>,
    /// How many calls there were before, and how long it was given, for each shutdown.
    pub shutdowns: Vec<(usize, Duration)>,
    pub dropped: bool,
}

/// What a test keeps of an exporter.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Notes>>);

/// The exporter itself.
#[derive(Debug)]
pub struct Recording(Recorder);

impl Recorder {
    /// Takes everything.
    pub fn new() -> Recorder {
        Recorder::default()
    }

    pub fn always(act: Act) -> Recorder {
        Recorder::scripted([], act)
    }

    pub fn scripted(script: impl IntoIterator<Item = Act>, otherwise: Act) -> Recorder {
        let recorder = Recorder::default();
        recorder.notes().script = script.into_iter().collect();
        recorder.notes().otherwise = otherwise;
        recorder
    }

    pub fn exporter(&self) -> Recording {
        Recording(self.clone())
    }

    #[track_caller]
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap()
    }

    pub fn taken(&self) -> Vec<SpanData> {
        self.notes().taken.clone()
    }

    pub fn calls(&self) -> usize {
        self.notes().calls.len()
    }
}

/// One call, from its begin to its end.
struct Running<'a> {
    notes: &'a Recorder,
    is_answered: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut notes = self.notes.notes();
        notes.running -= 1;
        notes.ended += usize::from(!self.is_answered);
    }
}

impl SpanExporter for Recording {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let act = {
            let mut notes = self.0.notes();
            notes.running += 1;
            assert_eq!(notes.running, 1, "called while another call runs");
            assert!(notes.shutdowns.is_empty(), "called after its shutdown");
            assert!(!notes.resources.is_empty(), "called without a resource");
            notes.calls.push(Instant::now());
            let thread = std::thread::current();
            notes
                .threads
                .push(thread.name().unwrap_or_default().to_owned());
            let next = notes.script.pop_front();
            next.unwrap_or_else(|| notes.otherwise.clone())
        };
        let mut running = Running {
            notes: &self.0,
            is_answered: false,
        };
        let result = match act {
            Act::Take => Ok(()),
            Act::Fail(why) => Err(OTelSdkError::InternalFailure(why.to_owned())),
            Act::TimeOut => Err(OTelSdkError::Timeout(Duration::from_secs(5))),
            Act::SayShutDown => Err(OTelSdkError::AlreadyShutdown),
            Act::Panic(why) => panic!("{why}"),
            Act::Hang => std::future::pending().await,
            Act::Block(time) => {
                std::thread::sleep(time);
                Ok(())
            }
            Act::Wait(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Act::Do(act) => {
                act();
                Ok(())
            }
        };
        if result.is_ok() {
            self.0.notes().taken.extend(batch);
        }
        running.is_answered = true;
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let (takes, error) = {
            let mut notes = self.0.notes();
            let calls = notes.calls.len();
            notes.shutdowns.push((calls, timeout));
            notes.shutdown
        };
        std::thread::sleep(takes);
        match error {
            Some(why) => Err(OTelSdkError::InternalFailure(why.to_owned())),
            None => Ok(()),
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.notes().resources.push(resource.clone());
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.0.notes().dropped = true;
    }
}
