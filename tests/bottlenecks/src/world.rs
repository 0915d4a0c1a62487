//! What a program needs of the world it runs in, and what it waits for in both: gates and queues.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::program::{Reading, Real};

pub type BoxFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Time, threads and tasks: simulated ones or real ones.
pub trait World: Send + Sync {
    /// Returns the time since the start.
    fn now(&self) -> Duration;
    /// The calling thread computes.
    fn cpu(&self, length: Duration);
    /// The calling thread waits.
    fn block(&self, length: Duration);
    /// The calling task waits.
    fn timer(&self, length: Duration) -> BoxFuture<'static>;
    /// Runs the future on the calling thread, which waits when it does.
    fn block_on(&self, future: BoxFuture<'_>);
    fn start_thread(&self, run: Box<dyn FnOnce() + Send>);
    fn start_task(&self, task: BoxFuture<'static>);
    fn add(&self, reading: Reading, amount: f64);
    /// Does it on the calling thread.
    fn real(&self, what: &Real, length: Duration);
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A semaphore that lets in whoever came first.
#[derive(Debug)]
pub struct GateState(Mutex<Places>);

#[derive(Debug)]
struct Places {
    free: usize,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    needs: usize,
    let_in: AtomicBool,
    waker: Mutex<Waker>,
}

impl GateState {
    pub fn new(places: usize) -> GateState {
        GateState(Mutex::new(Places {
            free: places,
            waiting: VecDeque::new(),
        }))
    }

    pub async fn enter(&self, needs: usize) {
        let waiter = {
            let mut places = lock(&self.0);
            if places.waiting.is_empty() && places.free >= needs {
                places.free -= needs;
                return;
            }
            let waiter = Arc::new(Waiter {
                needs,
                let_in: AtomicBool::new(false),
                waker: Mutex::new(Waker::noop().clone()),
            });
            places.waiting.push_back(Arc::clone(&waiter));
            waiter
        };
        poll_fn(|context| {
            lock(&waiter.waker).clone_from(context.waker());
            match waiter.let_in.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    pub fn leave(&self, count: usize) {
        let mut let_in = Vec::new();
        {
            let mut places = lock(&self.0);
            places.free += count;
            while let Some(first) = places.waiting.front()
                && first.needs <= places.free
            {
                places.free -= first.needs;
                let_in.extend(places.waiting.pop_front());
            }
        }
        for waiter in let_in {
            waiter.let_in.store(true, Ordering::SeqCst);
            lock(&waiter.waker).wake_by_ref();
        }
    }
}

/// An unbounded queue that knows when its items came.
#[derive(Debug, Default)]
pub struct QueueState(Mutex<Items>);

#[derive(Debug, Default)]
struct Items {
    since: VecDeque<Duration>,
    closed: bool,
    wakers: Vec<Waker>,
}

impl QueueState {
    pub fn push(&self, now: Duration) {
        let mut items = lock(&self.0);
        items.since.push_back(now);
        let wakers = std::mem::take(&mut items.wakers);
        drop(items);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn close(&self) {
        let mut items = lock(&self.0);
        items.closed = true;
        let wakers = std::mem::take(&mut items.wakers);
        drop(items);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns when the item came; `None` when there will be no more.
    pub async fn pop(&self) -> Option<Duration> {
        poll_fn(|context| {
            let mut items = lock(&self.0);
            if let Some(since) = items.since.pop_front() {
                return Poll::Ready(Some(since));
            }
            if items.closed {
                return Poll::Ready(None);
            }
            items.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

pub async fn yield_now() {
    let mut asked = false;
    poll_fn(|context| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

pub async fn join_all(mut futures: Vec<BoxFuture<'_>>) {
    poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        match futures.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}
