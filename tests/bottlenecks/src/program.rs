//! Programs as data: what threads and tasks do, step by step. Both tiers run the same description.

use std::sync::Arc;
use std::time::Duration;

use tracing_cortex::Target;

/// Steps that happen one after the other.
pub type Body = Arc<[Step]>;

/// A callsite, by its number in [`Program::sites`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site(pub usize);

/// Something of which there are so many and no more: a lock, a pool, the places of a server.
#[derive(Debug, Clone, Copy)]
pub struct Gate(pub usize);

/// What producers push into and consumers take from.
#[derive(Debug, Clone, Copy)]
pub struct Queue(pub usize);

/// How the main body runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// On its thread.
    Sync,
    /// As a task of a runtime with so many worker threads.
    Tasks(usize),
}

#[derive(Debug, Clone)]
pub struct Program {
    pub form: Form,
    /// Cores of the simulated machine.
    pub cores: usize,
    pub main: Body,
    /// The names of the callsites.
    pub sites: Vec<String>,
    /// How many each gate lets through.
    pub gates: Vec<usize>,
    pub queues: usize,
    /// Readings of resources at their start, by name.
    pub gauges: Vec<(Reading, f64)>,
    /// How fast sites are to be: the percentile and the limit.
    pub limits: Vec<(Site, f64, Duration)>,
}

impl Program {
    /// What the program's author would say to the builder.
    pub fn targets(&self) -> Vec<Target> {
        let limits = self.limits.iter();
        limits
            .map(|&(site, percentile, limit)| {
                Target::new(self.sites[site.0].clone(), percentile, limit)
            })
            .collect()
    }
}

/// What the operating system would say about the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    ResidentBytes,
    OpenFiles,
    Threads,
    SystemMemoryPercent,
    MajorFaults,
    /// What the program itself says of its queue.
    QueueDepth,
}

#[derive(Debug, Clone)]
pub enum Value {
    Int(i64),
    Float(f64),
    Flag(bool),
    Text(String),
}

#[derive(Debug, Clone)]
pub enum Step {
    /// The thread computes.
    Cpu(Duration),
    /// A thread waits; a task lets its worker do something else meanwhile.
    Wait(Duration),
    /// The thread waits, even if a task runs on it.
    Block(Duration),
    /// A task goes to the end of the queue.
    Yield,
    Many(Vec<Step>),
    Span(SpanStep),
    /// Waits for places of a gate, keeps them for the body.
    Inside(Inside),
    /// Runs the bodies at the same time and waits for all of them.
    Together(How, Vec<Body>),
    /// Nobody waits for it.
    Detached(Body),
    /// In a task: runs the body on a thread of its own and awaits it.
    Blocking(Body),
    Push(Queue),
    Close(Queue),
    /// Takes items until the queue is closed and empty; each is a span.
    Drain {
        queue: Queue,
        each: SpanStep,
        /// Where the time from push to pop is recorded.
        waited: Option<&'static str>,
    },
    /// Adds to a reading.
    Add(Reading, f64),
    /// What `sqlx` says about a query.
    QueryEvent {
        text: String,
        elapsed: Duration,
        rows: u64,
    },
    /// Something that the live tier really does and that takes this long on virtual time.
    Real(Real, Duration),
}

/// Operations on real files, a real database, a real connection.
#[derive(Debug, Clone)]
pub enum Real {
    /// Runs a statement on a database in memory, and waits for the rest of the time, as a server elsewhere would take it.
    Sql(String),
    /// Appends so many bytes to a file.
    Write(usize),
    /// Waits until the file is on disk, and for the rest of the time.
    Sync,
    /// Asks a server on this machine, which answers after the time with so many bytes.
    Get(usize),
}

#[derive(Debug, Clone)]
pub struct SpanStep {
    pub site: Site,
    pub fields: Vec<(&'static str, Value)>,
    /// Fields that get their value later.
    pub later: Vec<&'static str>,
    /// In a task: entered once, around a body that does not await.
    pub plain: bool,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub struct Inside {
    pub gate: Gate,
    /// Where the time until it was let in is recorded, in nanoseconds.
    pub waited: Option<&'static str>,
    /// Where the time that it was inside is recorded.
    pub held: Option<&'static str>,
    pub body: Body,
}

/// Who runs several bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// So many threads of their own, which take the next body when they are done with one.
    Threads(usize),
    /// A task each.
    Tasks,
    /// The same task.
    Join,
}

pub fn ms(count: f64) -> Duration {
    Duration::from_nanos((count * 1e6) as u64)
}

pub fn us(count: f64) -> Duration {
    ms(count / 1e3)
}

pub fn cpu(length: Duration) -> Step {
    Step::Cpu(length)
}

pub fn wait(length: Duration) -> Step {
    Step::Wait(length)
}

pub fn block(length: Duration) -> Step {
    Step::Block(length)
}

pub fn repeat(count: usize, of: impl FnMut(usize) -> Step) -> Step {
    Step::Many((0..count).map(of).collect())
}

pub fn body(steps: impl IntoIterator<Item = Step>) -> Body {
    steps.into_iter().collect()
}

pub fn together(how: How, bodies: impl IntoIterator<Item = Body>) -> Step {
    Step::Together(how, bodies.into_iter().collect())
}

/// As many threads as there are bodies.
pub fn threads(bodies: impl IntoIterator<Item = Body>) -> Step {
    let bodies: Vec<_> = bodies.into_iter().collect();
    Step::Together(How::Threads(bodies.len()), bodies)
}

pub fn span(site: Site) -> SpanStep {
    SpanStep {
        site,
        fields: Vec::new(),
        later: Vec::new(),
        plain: false,
        body: body([]),
    }
}

impl SpanStep {
    pub fn set(mut self, name: &'static str, value: impl Into<Value>) -> SpanStep {
        self.fields.push((name, value.into()));
        self
    }

    pub fn later(mut self, name: &'static str) -> SpanStep {
        self.later.push(name);
        self
    }

    pub fn plain(mut self) -> SpanStep {
        self.plain = true;
        self
    }

    pub fn run(self, steps: impl IntoIterator<Item = Step>) -> Step {
        Step::Span(self.with(steps))
    }

    pub fn with(mut self, steps: impl IntoIterator<Item = Step>) -> SpanStep {
        self.body = body(steps);
        self
    }
}

pub fn inside(gate: Gate, steps: impl IntoIterator<Item = Step>) -> Step {
    Step::Inside(Inside {
        gate,
        waited: None,
        held: None,
        body: body(steps),
    })
}

/// As [`inside`], with the names of the fields for how long it waited, and how long it was inside.
pub fn locked(
    gate: Gate,
    waited: &'static str,
    held: Option<&'static str>,
    steps: impl IntoIterator<Item = Step>,
) -> Step {
    Step::Inside(Inside {
        gate,
        waited: Some(waited),
        held,
        body: body(steps),
    })
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::Int(value as i64)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Flag(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

/// Returns how long the steps take where nothing happens at the same time.
pub fn length(steps: &[Step]) -> Duration {
    let lengths = steps.iter().map(|step| match step {
        Step::Cpu(length) | Step::Wait(length) | Step::Block(length) | Step::Real(_, length) => {
            *length
        }
        Step::Many(steps) => length(steps),
        Step::Span(span) => length(&span.body),
        Step::Inside(inside) => length(&inside.body),
        _ => Duration::ZERO,
    });
    lengths.sum()
}

/// Calls `see` for every span step of a body.
pub fn each_span(steps: &[Step], see: &mut dyn FnMut(&SpanStep)) {
    for step in steps {
        match step {
            Step::Many(steps) => each_span(steps, see),
            Step::Span(span) => {
                see(span);
                each_span(&span.body, see);
            }
            Step::Drain { each, waited, .. } => {
                let mut each = each.clone();
                each.later.extend(*waited);
                see(&each);
                each_span(&each.body, see);
            }
            Step::Inside(inside) => each_span(&inside.body, see),
            Step::Together(_, bodies) => bodies.iter().for_each(|body| each_span(body, see)),
            Step::Detached(body) | Step::Blocking(body) => each_span(body, see),
            _ => {}
        }
    }
}
