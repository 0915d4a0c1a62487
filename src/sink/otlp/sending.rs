//! What happens on the thread `cortex-export`.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};

use super::account::{Account, Fate};
use super::queue::{Item, Queue};
use super::retry::Again;
use super::settings::{Destination, Settings, Signal};
use super::spill::{Spill, Unwritten};
use super::transport::{Accepted, Failure, Transport};
use crate::model::Export;

/// How long a request is tried again where a file stands ready for it. Without one, it is tried until its room in the
/// queue is needed: giving it up earlier would gain nothing.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How often those who wait may cut the back-off short.
const HURRY_PERIOD: Duration = Duration::from_secs(1);
/// Span requests that are under way at a time, so that a receiver that takes 50 ms for each does not limit the rate.
const SPANS_AT_A_TIME: usize = 4;
/// What an exporter that answers nothing leaves of the deadline to its own shutdown.
const TIME_TO_CLOSE: Duration = Duration::from_millis(250);
/// How much later than its deadline `finish` may return.
const SLACK: Duration = Duration::from_millis(100);
/// What a slow disk and an unoptimised build write at the least, in bytes of requests per second.
const SPILL_RATE: usize = 1 << 20;

/// What the thread shares with those who give it work.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something has got its fate, or the thread has ended.
    changed: Condvar,
    /// There is something to do for the thread.
    wake: Notify,
    /// Apart from the state: a slow disk must not hold up those who count.
    spill: Option<Mutex<Spill>>,
    max_queue_bytes: usize,
    /// Spans go to an exporter of the program's own, which is to be shut down.
    has_exporter: bool,
}

struct State {
    queue: Queue,
    account: Account,
    /// Why the receiver takes no metrics, if it does not.
    no_metrics: Option<String>,
    /// When somebody who waits last had the queue tried at once.
    hurried: Option<Instant>,
    /// Set by `finish`.
    end: Option<End>,
    has_ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct End {
    /// Nothing is sent any more.
    sending: Instant,
    /// Nothing is written any more.
    deadline: Instant,
}

/// What the thread does next.
struct Plan {
    start: Vec<Item>,
    give_up: Vec<Item>,
    wake_at: Option<Instant>,
    is_over: bool,
}

type Answer = Result<Accepted, Failure>;

enum Event {
    Answered(Id, Answer),
    Woken,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(settings: &Settings) -> Shared {
        let traces = settings.traces.as_ref().map(Destination::shown);
        let metrics = settings
            .metrics
            .as_ref()
            .map(|target| target.shown.as_str());
        let endpoint = traces.or(metrics).unwrap_or_default().to_owned();
        let has_exporter = matches!(settings.traces, Some(Destination::Exporter(..)));
        let spans_at_a_time = if has_exporter { 1 } else { SPANS_AT_A_TIME };
        let spill = settings.spill.clone();
        Shared {
            state: Mutex::new(State {
                queue: Queue::new(settings.max_queue_bytes, spans_at_a_time),
                account: Account::new(endpoint),
                no_metrics: None,
                hurried: None,
                end: None,
                has_ended: false,
            }),
            changed: Condvar::new(),
            wake: Notify::new(),
            spill: spill.map(|path| Mutex::new(Spill::new(path))),
            max_queue_bytes: settings.max_queue_bytes,
            has_exporter,
        }
    }

    pub(super) fn export(&self) -> Export {
        self.state().account.export().clone()
    }

    pub(super) fn takes_metrics(&self) -> bool {
        self.state().no_metrics.is_none()
    }

    pub(super) fn unwanted_points(&self) -> u64 {
        self.state().account.unwanted_points()
    }

    pub(super) fn send(&self, signal: Signal, request: Vec<u8>, amount: u64) {
        let mut state = self.state();
        if state.end.is_some() || state.has_ended {
            state.account.too_late(signal, amount);
            return;
        }
        if signal == Signal::Metrics
            && let Some(why) = state.no_metrics.clone()
        {
            state.account.settle(signal, amount, Fate::Unwanted { why });
            return;
        }
        state.account.take(signal, amount);
        let given_up = state.queue.push(signal, request, amount);
        drop(state);
        self.wake.notify_one();
        if !given_up.is_empty() {
            let why = format!(
                "the queue of {} bytes is full: raise Otlp::max_queue_bytes",
                self.max_queue_bytes
            );
            self.give_up(given_up, &why);
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        let state = self.state();
        state.has_ended || state.queue.is_settled(state.queue.last_number())
    }

    /// Has what only our own patience holds back tried at once, for somebody who waits. May be called as often as one
    /// likes: the receiver is spared between.
    pub(super) fn hurry(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let is_early = |last: Instant| now.duration_since(last) < HURRY_PERIOD;
        if state.hurried.is_some_and(is_early) {
            return;
        }
        state.hurried = Some(now);
        state.queue.hurry();
        drop(state);
        self.wake.notify_one();
    }

    /// Returns whether the thread has ended by the deadline.
    pub(super) fn finish(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        if state.end.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            let writing = match &self.spill {
                Some(_) => time_to_spill(state.queue.bytes()).min(left / 2),
                None => Duration::ZERO,
            };
            let closing = match self.has_exporter {
                true => TIME_TO_CLOSE.min(left / 4),
                false => Duration::ZERO,
            };
            state.end = Some(End {
                // The exporter is shut down while the file is written.
                sending: deadline - writing.max(closing),
                deadline,
            });
            state.queue.hurry();
        }
        self.wake.notify_one();
        let mut state = self.wait(state, deadline + SLACK, |state| state.has_ended);
        // If it has not ended, it hangs in a system call. What it still does is not counted any more.
        state.close("the exporter did not end by the deadline of the exit");
        state.has_ended
    }

    /// The end of all work.
    fn deadline(&self) -> Instant {
        self.state()
            .end
            .map_or_else(Instant::now, |end| end.deadline)
    }

    fn warn(&self, why: String) {
        self.state().account.warn(why);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        until: Instant,
        is_done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        while !is_done(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state
    }

    fn plan(&self, now: Instant) -> Plan {
        let mut state = self.state();
        let mut plan = Plan {
            start: Vec::new(),
            give_up: Vec::new(),
            wake_at: None,
            is_over: false,
        };
        if let Some(end) = state.end {
            plan.is_over = now >= end.sending || state.queue.is_settled(state.queue.last_number());
            plan.give_up = state.queue.hopeless(end.sending);
            plan.wake_at = Some(end.sending);
            if plan.is_over {
                return plan;
            }
        }
        for signal in [Signal::Traces, Signal::Metrics] {
            while let Some(item) = state.queue.start(signal, now) {
                plan.start.push(item);
            }
        }
        let opens = state.queue.opens();
        plan.wake_at = match (plan.wake_at, opens) {
            (Some(end), Some(opens)) => Some(end.min(opens)),
            (end, opens) => end.or(opens),
        };
        plan
    }

    fn settle(&self, item: &Item, fate: Fate) {
        let mut state = self.state();
        state.account.settle(item.signal, item.amount, fate);
        state.queue.forget(item);
        let is_ending = state.end.is_some();
        drop(state);
        self.changed.notify_all();
        if is_ending {
            self.wake.notify_one();
        }
    }

    fn answered(&self, item: Item, answer: Answer) {
        let now = Instant::now();
        let mut state = self.state();
        let failure = match answer {
            Ok(Accepted { rejected, why }) => {
                state.queue.answered(&item, true);
                drop(state);
                let refused = rejected;
                return self.settle(&item, Fate::Exported { refused, why });
            }
            Err(failure) => failure,
        };
        if failure.again == Again::Never {
            // The receiver is there, so that the next need not wait.
            state.queue.answered(&item, true);
            drop(state);
            return self.settle(&item, Fate::Refused { why: failure.why });
        }
        if failure.again == Again::InVain {
            state.queue.answered(&item, true);
            drop(state);
            return self.give_up(vec![item], &failure.why);
        }
        if failure.again == Again::NothingOfThisSignal {
            state.queue.answered(&item, true);
            state.no_metrics = Some(failure.why.clone());
            let mut unwanted = vec![item];
            unwanted.extend(state.queue.drain_lane(Signal::Metrics));
            drop(state);
            for item in unwanted {
                let why = failure.why.clone();
                self.settle(&item, Fate::Unwanted { why });
            }
            return;
        }
        let is_ending = state.end.is_some();
        let is_tried = item
            .first_failure
            .is_some_and(|first| now.duration_since(first) >= LONGEST_RETRY);
        let is_better_in_file = is_tried && self.spill.is_some() && item.signal == Signal::Traces;
        let is_hopeless = is_ending && failure.again == Again::NotAtTheEnd;
        if is_hopeless || is_better_in_file {
            state.queue.answered(&item, false);
            let mut items = vec![item];
            if is_hopeless {
                items.extend(state.queue.drain_lane(items[0].signal));
            }
            drop(state);
            self.give_up(items, &failure.why);
        } else {
            state
                .queue
                .failed(item, failure.why, failure.again, now, is_ending);
        }
    }

    /// Writes what cannot be sent to the file, as long as there is one and time for it.
    fn give_up(&self, items: Vec<Item>, reason: &str) {
        let deadline = self.state().end.map(|end| end.deadline);
        for item in items {
            let failing = || self.state().queue.last_failure(item.signal);
            let why = match item.why.clone().or_else(failing) {
                Some(why) if why != reason => format!("{reason}; {why}"),
                _ => reason.to_owned(),
            };
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let spill = self.spill.as_ref();
            let fate = match spill.filter(|_| item.signal == Signal::Traces && !is_late) {
                None => Fate::Dropped { why },
                Some(spill) => {
                    let mut spill = spill.lock().unwrap_or_else(PoisonError::into_inner);
                    match spill.write(&item.request) {
                        Ok(()) => Fate::Spilled { dropped: 0, why },
                        Err(Unwritten {
                            written,
                            why: error,
                        }) => Fate::Spilled {
                            dropped: item.amount.saturating_sub(written),
                            why: format!("{why}; {error}"),
                        },
                    }
                }
            };
            self.settle(&item, fate);
        }
    }
}

impl State {
    fn close(&mut self, why: &str) {
        let points = self.queue.outstanding_points();
        self.account.close(points, why);
    }
}

/// Tells those who wait that the thread does nothing more, also where it ends by a panic.
pub(super) struct Ended(pub(super) Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.has_ended = true;
        state.close("the exporter's thread has ended; this is an error of tracing-cortex");
        drop(state);
        self.0.changed.notify_all();
    }
}

/// Returns how long writing so many bytes of requests may take.
fn time_to_spill(bytes: usize) -> Duration {
    Duration::from_millis(250) + Duration::from_secs_f64(bytes as f64 / SPILL_RATE as f64)
}

/// Sends until `Shared::finish` has been called and everything has its fate, or the deadline has passed.
pub(super) fn run(shared: &Shared, runtime: Runtime, transport: Transport) {
    let transport = Arc::new(transport);
    let rest = runtime.block_on(send_all(shared, &transport));
    let deadline = shared.deadline();
    let closing = transport.close(&runtime, deadline);
    shared.give_up(rest, "the program ended before the receiver had answered");
    if let Some(closing) = closing
        && let Err(why) = runtime.block_on(closing.wait(deadline))
    {
        shared.warn(why);
    }
    // A name that is still being looked up, or an exporter that hangs, must not hold up the end.
    runtime.shutdown_background();
}

/// Sends until the end; returns what was not sent by then.
async fn send_all(shared: &Shared, transport: &Arc<Transport>) -> Vec<Item> {
    let mut attempts = JoinSet::new();
    let mut under_way: HashMap<Id, Item> = HashMap::new();
    loop {
        let plan = shared.plan(Instant::now());
        if !plan.give_up.is_empty() {
            let why = "the receiver asks to wait beyond the end of the program";
            shared.give_up(plan.give_up, why);
            continue;
        }
        if plan.is_over {
            // Dropping the attempts cancels them.
            let mut rest: Vec<_> = under_way.into_values().collect();
            rest.extend(shared.state().queue.drain());
            return rest;
        }
        for item in plan.start {
            let transport = Arc::clone(transport);
            let (signal, request) = (item.signal, item.request.clone());
            let attempt = async move { transport.send(signal, request).await };
            under_way.insert(attempts.spawn(attempt).id(), item);
        }
        match next_event(shared, &mut attempts, plan.wake_at).await {
            Event::Answered(id, answer) => {
                if let Some(item) = under_way.remove(&id) {
                    shared.answered(item, answer);
                }
            }
            Event::Woken => {}
        }
    }
}

/// Waits for an answer, for a call from another thread, or until `wake_at`.
async fn next_event(
    shared: &Shared,
    attempts: &mut JoinSet<Answer>,
    wake_at: Option<Instant>,
) -> Event {
    let mut woken = pin!(shared.wake.notified());
    let mut sleep = pin!(async {
        match wake_at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    });
    poll_fn(|cx| {
        if let Poll::Ready(Some(joined)) = attempts.poll_join_next_with_id(cx) {
            return Poll::Ready(answered(joined));
        }
        if woken.as_mut().poll(cx).is_ready() || sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Woken);
        }
        Poll::Pending
    })
    .await
}

fn answered(joined: Result<(Id, Answer), JoinError>) -> Event {
    match joined {
        Ok((id, answer)) => Event::Answered(id, answer),
        Err(panicked) => {
            let failure = Failure {
                why: format!("the attempt failed ({panicked}); this is an error of tracing-cortex"),
                again: Again::Never,
            };
            Event::Answered(panicked.id(), Err(failure))
        }
    }
}
