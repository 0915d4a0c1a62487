//! A machine on virtual time: threads are real threads of which one runs at a time, in the order of simulated events.
//!
//! A thread that computes or waits hands the turn to whoever is next; so the same program gives the same trace, to the
//! nanosecond, on every machine and however busy it is.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tracing::Dispatch;
use tracing_cortex::ManualClock;

use crate::program::{Reading, Real};
use crate::world::{BoxFuture, World, lock};

/// The name of a thread, by its number.
pub fn thread_name(number: usize) -> String {
    match number {
        0 => "main".to_owned(),
        number => format!("thread-{number}"),
    }
}

/// How long a thread may compute while others wait for its core.
const QUANTUM: Duration = Duration::from_millis(2);

thread_local! {
    /// The number of this thread in its machine.
    static ME: Cell<usize> = const { Cell::new(usize::MAX) };
}

pub struct Machine {
    clock: ManualClock,
    dispatch: Dispatch,
    state: Mutex<State>,
    on_reading: Box<dyn Fn(Reading, f64) + Send + Sync>,
    /// Every so often while the program runs.
    tick: (Duration, Box<dyn Fn(Meter) + Send + Sync>),
}

struct State {
    now: Duration,
    next_event: u64,
    events: BinaryHeap<Reverse<Event>>,
    seats: Vec<Arc<Seat>>,
    running_threads: usize,
    cores: usize,
    free_cores: usize,
    waiting_for_core: VecDeque<usize>,
    tasks: VecDeque<Arc<Task>>,
    idle_workers: VecDeque<usize>,
    counters: Counters,
    of_threads: Vec<Counters>,
    over: bool,
}

/// What the scheduler counts, of one thread or of all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub cpu: Duration,
    /// Ready to run, without a core.
    pub queued: Duration,
    /// Went without being asked, because others waited for the core.
    pub involuntary: u64,
    pub voluntary: u64,
}

/// What there is to read while a program runs.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    pub at: Duration,
    pub counters: Counters,
    pub threads: usize,
}

struct Event {
    at: Duration,
    number: u64,
    what: What,
}

enum What {
    Go(usize),
    Wake(Waker),
    Tick,
}

/// Where a thread waits for its turn.
#[derive(Default)]
struct Seat {
    turn: Mutex<bool>,
    called: Condvar,
    /// A thread that waits for a future sleeps; or was woken before it did.
    wake: Mutex<Sleep>,
}

#[derive(Default, PartialEq)]
enum Sleep {
    #[default]
    Awake,
    Asleep,
    WokenBefore,
}

/// Thrown through threads that are still waiting when the program ends.
struct Over;

impl Machine {
    /// `dispatch` is the default on all its threads. The calling thread is its first.
    pub fn start(
        clock: &ManualClock,
        dispatch: &Dispatch,
        cores: usize,
        workers: usize,
        on_reading: impl Fn(Reading, f64) + Send + Sync + 'static,
        tick: (Duration, Box<dyn Fn(Meter) + Send + Sync>),
    ) -> Arc<Machine> {
        let machine = Machine {
            clock: clock.clone(),
            dispatch: dispatch.clone(),
            state: Mutex::new(State {
                now: Duration::ZERO,
                next_event: 0,
                events: BinaryHeap::new(),
                seats: vec![Arc::default()],
                running_threads: 1,
                cores,
                free_cores: cores,
                waiting_for_core: VecDeque::new(),
                tasks: VecDeque::new(),
                idle_workers: VecDeque::new(),
                counters: Counters::default(),
                of_threads: vec![Counters::default()],
                over: false,
            }),
            on_reading: Box::new(on_reading),
            tick,
        };
        let machine = Arc::new(machine);
        ME.set(0);
        lock(&machine.state).push(machine.tick.0, What::Tick);
        for _ in 0..workers {
            let worker = Arc::clone(&machine);
            machine.start_thread(Box::new(move || worker.work_on_tasks()));
        }
        machine
    }

    /// Ends the machine; what still waits never goes on. Returns what was counted: of all threads, and of each.
    pub fn stop(&self) -> (Counters, Vec<Counters>) {
        let mut state = lock(&self.state);
        state.over = true;
        state.tasks.clear();
        state.events.clear();
        for seat in &state.seats {
            *lock(&seat.turn) = true;
            seat.called.notify_all();
        }
        (state.counters, state.of_threads.clone())
    }

    /// Waits for the turn of this thread, and lets others have theirs.
    fn pass<'m>(&'m self, mut state: MutexGuard<'m, State>, comes_back: bool) {
        let me = ME.get();
        loop {
            if state.over {
                drop(state);
                resume_unwind(Box::new(Over));
            }
            let Some(Reverse(event)) = state.events.pop() else {
                panic!("every thread of the program waits for another one");
            };
            state.now = event.at;
            self.clock.set(event.at);
            match event.what {
                What::Go(next) if next == me && comes_back => return,
                What::Go(next) => {
                    let (next, mine) =
                        (Arc::clone(&state.seats[next]), Arc::clone(&state.seats[me]));
                    drop(state);
                    *lock(&next.turn) = true;
                    next.called.notify_one();
                    if comes_back {
                        mine.wait();
                        if lock(&self.state).over {
                            resume_unwind(Box::new(Over));
                        }
                    }
                    return;
                }
                What::Wake(waker) => {
                    drop(state);
                    waker.wake();
                    state = lock(&self.state);
                }
                What::Tick => {
                    let meter = Meter {
                        at: event.at,
                        counters: state.counters,
                        threads: state.running_threads,
                    };
                    if state.events.is_empty() {
                        panic!("every thread of the program waits for another one");
                    }
                    state.push(event.at + self.tick.0, What::Tick);
                    drop(state);
                    (self.tick.1)(meter);
                    state = lock(&self.state);
                }
            }
        }
    }

    fn work_on_tasks(self: Arc<Machine>) {
        loop {
            let mut state = lock(&self.state);
            let Some(task) = state.tasks.pop_front() else {
                state.idle_workers.push_back(ME.get());
                self.pass(state, true);
                continue;
            };
            drop(state);
            task.poll();
        }
    }
}

impl State {
    fn push(&mut self, at: Duration, what: What) {
        let number = self.next_event;
        self.next_event += 1;
        self.events.push(Reverse(Event { at, number, what }));
    }

    fn count(&mut self, thread: usize, cpu: Duration, queued: Duration, preempted: bool) {
        for counters in [&mut self.counters, &mut self.of_threads[thread]] {
            counters.cpu += cpu;
            counters.queued += queued;
            counters.involuntary += u64::from(preempted);
            counters.voluntary += u64::from(!preempted);
        }
    }

    fn go_now(&mut self, thread: usize) {
        self.push(self.now, What::Go(thread));
    }
}

impl World for Arc<Machine> {
    fn now(&self) -> Duration {
        lock(&self.state).now
    }

    fn cpu(&self, length: Duration) {
        let me = ME.get();
        let mut left = length;
        while left > Duration::ZERO {
            let mut state = lock(&self.state);
            let came = state.now;
            if state.free_cores > 0 {
                state.free_cores -= 1;
            } else {
                state.waiting_for_core.push_back(me);
                self.pass(state, true);
                state = lock(&self.state);
            }
            let queued = state.now - came;
            // Where cores are plenty nobody can come to wait for one.
            let plenty = state.running_threads <= state.cores;
            let slice = if plenty { left } else { left.min(QUANTUM) };
            let until = state.now + slice;
            state.push(until, What::Go(me));
            self.pass(state, true);
            self.clock.charge(slice);
            left -= slice;
            let mut state = lock(&self.state);
            let next = state.waiting_for_core.pop_front();
            let preempted = next.is_some() && left > Duration::ZERO;
            state.count(me, slice, queued, preempted);
            match next {
                Some(next) => state.go_now(next),
                None => state.free_cores += 1,
            }
        }
    }

    fn block(&self, length: Duration) {
        let mut state = lock(&self.state);
        let until = state.now + length;
        state.push(until, What::Go(ME.get()));
        self.pass(state, true);
    }

    fn timer(&self, length: Duration) -> BoxFuture<'static> {
        let machine = Arc::clone(self);
        let until = lock(&self.state).now + length;
        let mut set = false;
        Box::pin(poll_fn(move |context| {
            let mut state = lock(&machine.state);
            if state.now >= until {
                return Poll::Ready(());
            }
            if !set {
                set = true;
                state.push(until, What::Wake(context.waker().clone()));
            }
            Poll::Pending
        }))
    }

    fn block_on(&self, mut future: BoxFuture<'_>) {
        let me = ME.get();
        let seat = Arc::clone(&lock(&self.state).seats[me]);
        let waker = Waker::from(Arc::new(OfThread {
            machine: Arc::clone(self),
            thread: me,
        }));
        while future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            let state = lock(&self.state);
            let mut wake = lock(&seat.wake);
            if *wake == Sleep::WokenBefore {
                *wake = Sleep::Awake;
                continue;
            }
            *wake = Sleep::Asleep;
            drop(wake);
            self.pass(state, true);
        }
    }

    fn start_thread(&self, run: Box<dyn FnOnce() + Send>) {
        let machine = Arc::clone(self);
        let (me, seat) = {
            let mut state = lock(&self.state);
            let (me, seat) = (state.seats.len(), Arc::<Seat>::default());
            state.seats.push(Arc::clone(&seat));
            state.of_threads.push(Counters::default());
            state.running_threads += 1;
            state.go_now(me);
            (me, seat)
        };
        let name = thread_name(me);
        let started = std::thread::Builder::new().name(name).spawn(move || {
            ME.set(me);
            seat.wait();
            let ended = catch_unwind(AssertUnwindSafe(|| {
                if lock(&machine.state).over {
                    return;
                }
                let dispatch = machine.dispatch.clone();
                tracing::dispatcher::with_default(&dispatch, run);
                let mut state = lock(&machine.state);
                state.running_threads -= 1;
                machine.pass(state, false);
            }));
            if let Err(payload) = ended
                && !payload.is::<Over>()
            {
                std::process::abort();
            }
        });
        started.expect("a thread for the program");
    }

    fn start_task(&self, future: BoxFuture<'static>) {
        let task = Arc::new(Task {
            machine: Arc::clone(self),
            future: Mutex::new(Some(future)),
            state: Mutex::new(TaskState::Idle),
        });
        task.wake();
    }

    fn add(&self, reading: Reading, amount: f64) {
        (self.on_reading)(reading, amount);
    }

    fn real(&self, what: &Real, length: Duration) {
        // A write fills a buffer of the kernel, which is work; all else waits for somebody.
        match what {
            Real::Write(_) => self.cpu(length),
            Real::Sql(_) | Real::Sync | Real::Get(_) => self.block(length),
        }
    }
}

impl Seat {
    fn wait(&self) {
        let mut turn = lock(&self.turn);
        while !*turn {
            turn = self
                .called
                .wait(turn)
                .unwrap_or_else(|error| error.into_inner());
        }
        *turn = false;
    }
}

/// Wakes a thread that waits for a future.
struct OfThread {
    machine: Arc<Machine>,
    thread: usize,
}

impl Wake for OfThread {
    fn wake(self: Arc<Self>) {
        let mut state = lock(&self.machine.state);
        let seat = Arc::clone(&state.seats[self.thread]);
        let mut wake = lock(&seat.wake);
        if *wake == Sleep::Asleep {
            *wake = Sleep::Awake;
            state.go_now(self.thread);
        } else {
            *wake = Sleep::WokenBefore;
        }
    }
}

struct Task {
    machine: Arc<Machine>,
    future: Mutex<Option<BoxFuture<'static>>>,
    state: Mutex<TaskState>,
}

#[derive(Clone, Copy, PartialEq)]
enum TaskState {
    Idle,
    Queued,
    Polled,
    /// Woken while it was being polled.
    PolledAgain,
}

impl Task {
    fn poll(self: Arc<Task>) {
        *lock(&self.state) = TaskState::Polled;
        let waker = Waker::from(Arc::clone(&self));
        let mut future = lock(&self.future).take();
        let Some(running) = &mut future else {
            return;
        };
        if running
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            return;
        }
        *lock(&self.future) = future;
        let again = {
            let mut state = lock(&self.state);
            std::mem::replace(&mut *state, TaskState::Idle) == TaskState::PolledAgain
        };
        if again {
            self.wake();
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Task>) {
        let mut state = lock(&self.state);
        match *state {
            TaskState::Idle => *state = TaskState::Queued,
            TaskState::Polled => {
                *state = TaskState::PolledAgain;
                return;
            }
            TaskState::Queued | TaskState::PolledAgain => return,
        }
        drop(state);
        let machine = Arc::clone(&self.machine);
        let mut state = lock(&machine.state);
        state.tasks.push_back(self);
        if let Some(worker) = state.idle_workers.pop_front() {
            state.go_now(worker);
        }
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.number == other.number
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Event) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
