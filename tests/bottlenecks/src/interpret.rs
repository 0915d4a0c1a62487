//! Runs a program in a world, simulated or real.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tracing::{Dispatch, Instrument, Metadata, Span};

use crate::callsite;
use crate::program::{Body, Form, How, Inside, Program, SpanStep, Step};
use crate::world::{BoxFuture, GateState, QueueState, World, join_all, yield_now};

/// A program with everything that it needs to run.
struct Running {
    world: Arc<dyn World>,
    dispatch: Dispatch,
    sites: Vec<&'static Metadata<'static>>,
    gates: Vec<GateState>,
    queues: Vec<QueueState>,
}

/// Where in the program one thread or task is.
#[derive(Clone)]
struct Place {
    running: Arc<Running>,
    /// Runs on a thread; a task otherwise.
    sync: bool,
    /// The innermost span.
    span: Option<Span>,
    /// The span that started the thread or task, until a span is opened in it.
    parent: Option<Span>,
}

/// Runs the whole program; the calling thread is its main thread.
pub fn run(program: &Program, world: Arc<dyn World>, dispatch: Dispatch) {
    let place = Place {
        running: Arc::new(Running {
            sites: callsite::make(program),
            gates: program.gates.iter().copied().map(GateState::new).collect(),
            queues: (0..program.queues).map(|_| QueueState::default()).collect(),
            dispatch,
            world,
        }),
        sync: program.form == Form::Sync,
        span: None,
        parent: None,
    };
    let world = Arc::clone(&place.running.world);
    let dispatch = place.running.dispatch.clone();
    tracing::dispatcher::with_default(&dispatch, || match program.form {
        Form::Sync => world.block_on(steps(&place, &program.main)),
        Form::Tasks(_) => {
            let main = together(&place, How::Tasks, std::slice::from_ref(&program.main));
            world.block_on(Box::pin(main));
        }
    });
}

fn steps<'a>(place: &'a Place, steps: &'a [Step]) -> BoxFuture<'a> {
    Box::pin(async move {
        for step in steps {
            one(place, step).await;
        }
    })
}

async fn one(place: &Place, step: &Step) {
    let world = &place.running.world;
    match step {
        Step::Cpu(length) => world.cpu(*length),
        Step::Wait(length) if !place.sync => world.timer(*length).await,
        Step::Wait(length) | Step::Block(length) => world.block(*length),
        Step::Yield if place.sync => {}
        Step::Yield => yield_now().await,
        Step::Many(many) => steps(place, many).await,
        Step::Span(step) => {
            let span = place.open(step);
            in_span(place, span, step).await;
        }
        Step::Inside(inside) => through(place, inside).await,
        Step::Together(how, bodies) => together(place, *how, bodies).await,
        Step::Detached(body) => {
            let how = if place.sync {
                How::Threads(1)
            } else {
                How::Tasks
            };
            start(
                place,
                how,
                vec![Arc::clone(body)],
                &Arc::new(GateState::new(0)),
            );
        }
        Step::Blocking(body) => {
            let on_thread = Place {
                sync: true,
                ..place.clone()
            };
            together(&on_thread, How::Threads(1), std::slice::from_ref(body)).await;
        }
        Step::Push(queue) => place.running.queues[queue.0].push(world.now()),
        Step::Close(queue) => place.running.queues[queue.0].close(),
        Step::Drain {
            queue,
            each,
            waited,
        } => {
            while let Some(since) = place.running.queues[queue.0].pop().await {
                let span = place.open(each);
                if let Some(waited) = waited {
                    record(&span, waited, world.now().saturating_sub(since));
                }
                in_span(place, span, each).await;
            }
        }
        Step::Add(reading, amount) => world.add(*reading, *amount),
        Step::QueryEvent {
            text,
            elapsed,
            rows,
        } => tracing::debug!(
            target: "sqlx::query",
            summary = text,
            db.statement = "",
            rows_affected = 0_u64,
            rows_returned = rows,
            elapsed = ?elapsed,
            elapsed_secs = elapsed.as_secs_f64(),
        ),
        Step::Real(what, length) => world.real(what, *length),
    }
}

async fn in_span(place: &Place, span: Span, step: &SpanStep) {
    let mut inner = Place {
        span: Some(span.clone()),
        parent: None,
        ..place.clone()
    };
    if !place.sync && !step.plain {
        steps(&inner, &step.body).instrument(span).await;
        return;
    }
    // A guard would tie the future to its thread, which the types do not know to be so.
    span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
    if place.sync {
        steps(&inner, &step.body).await;
    } else {
        inner.sync = true;
        place.running.world.block_on(steps(&inner, &step.body));
    }
    span.with_subscriber(|(id, dispatch)| dispatch.exit(id));
}

async fn through(place: &Place, inside: &Inside) {
    let (running, note) = (&place.running, |name: Option<&str>, length| {
        if let (Some(name), Some(span)) = (name, &place.span) {
            record(span, name, length);
        }
    });
    let gate = &running.gates[inside.gate.0];
    let came = running.world.now();
    gate.enter(1).await;
    let entered = running.world.now();
    note(inside.waited, entered - came);
    steps(place, &inside.body).await;
    note(inside.held, running.world.now() - entered);
    gate.leave(1);
}

async fn together(place: &Place, how: How, bodies: &[Body]) {
    if how == How::Join {
        let futures = bodies.iter().map(|body| steps(place, body));
        return join_all(futures.collect()).await;
    }
    let done = Arc::new(GateState::new(0));
    let started = start(place, how, bodies.to_vec(), &done);
    done.enter(started).await;
}

/// Starts threads or tasks, each of which releases one place of `done` in the end; returns how many.
fn start(place: &Place, how: How, bodies: Vec<Body>, done: &Arc<GateState>) -> usize {
    let threads = match how {
        How::Threads(threads) => threads,
        How::Tasks | How::Join => {
            let count = bodies.len();
            for body in bodies {
                start_task(place, body, Arc::clone(done));
            }
            return count;
        }
    };
    let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
    for _ in 0..threads {
        let (bodies, next, done) = (Arc::clone(&bodies), Arc::clone(&next), Arc::clone(done));
        let place = Place {
            sync: true,
            ..place.of_child()
        };
        let world = Arc::clone(&place.running.world);
        world.start_thread(Box::new(move || {
            let dispatch = place.running.dispatch.clone();
            tracing::dispatcher::with_default(&dispatch, || {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::SeqCst)) {
                    place.running.world.block_on(steps(&place, body));
                }
            });
            drop(place);
            done.leave(1);
        }));
    }
    threads
}

/// Opens the span of the task here and now, as `spawn(work().instrument(span))` does.
fn start_task(place: &Place, body: Body, done: Arc<GateState>) {
    let place = Place {
        sync: false,
        ..place.of_child()
    };
    let running = Arc::clone(&place.running);
    let task: BoxFuture<'static> = match &*body {
        [Step::Span(first)] if !first.plain => {
            let span = place.open(first);
            let inner = Place {
                span: Some(span.clone()),
                parent: None,
                ..place
            };
            let inside = Arc::clone(&first.body);
            Box::pin(async move {
                async move { steps(&inner, &inside).await }
                    .instrument(span)
                    .await;
                done.leave(1);
            })
        }
        _ => Box::pin(async move {
            steps(&place, &body).await;
            drop(place);
            done.leave(1);
        }),
    };
    running.world.start_task(task);
}

impl Place {
    fn open(&self, step: &SpanStep) -> Span {
        callsite::open(self.running.sites[step.site.0], step, self.parent.as_ref())
    }

    /// The place of a thread or task that is started here.
    fn of_child(&self) -> Place {
        Place {
            parent: self.span.clone().or_else(|| self.parent.clone()),
            span: None,
            ..self.clone()
        }
    }
}

fn record(span: &Span, name: &str, length: Duration) {
    let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    span.record(name, length);
}
