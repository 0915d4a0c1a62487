//! What the simulated driver knows. One lock, never held while a callback of the program runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use crate::activities::Record;
use crate::events::Event;
use crate::launch::Function;
use crate::streams::Stream;

static STATE: Mutex<Option<State>> = Mutex::new(None);

pub struct Guard(MutexGuard<'static, Option<State>>);

#[derive(Default)]
pub struct State {
    /// The first ones are the legacy default streams, one for each device.
    pub streams: Vec<Stream>,
    /// The per-thread default streams, by device and thread.
    pub per_thread: HashMap<(usize, u64), usize>,
    pub events: Vec<Option<Event>>,
    pub free_events: Vec<usize>,
    pub functions: Vec<&'static Function>,
    /// Bytes and device by address.
    pub allocations: BTreeMap<u64, (u64, usize)>,
    /// Bytes by address.
    pub pinned: BTreeMap<usize, usize>,
    pub launches: u64,
    /// A bit for each kind of activity.
    pub kinds: u64,
    pub records: Vec<Record>,
    pub dropped: u64,
    pub flushes: u64,
}

pub fn lock() -> Guard {
    let mut state = STATE.lock().unwrap();
    if state.is_none() {
        *state = Some(State {
            streams: Stream::of_devices(),
            ..State::default()
        });
    }
    Guard(state)
}

impl std::ops::Deref for Guard {
    type Target = State;

    fn deref(&self) -> &State {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut State {
        self.0.as_mut().unwrap()
    }
}

/// The kernel's number of this thread.
pub fn thread_id() -> u64 {
    unsafe extern "C" {
        fn gettid() -> i32;
    }
    thread_local! {
        // SAFETY: takes nothing and cannot fail.
        static ID: u64 = unsafe { gettid() } as u64;
    }
    ID.with(|id| *id)
}
