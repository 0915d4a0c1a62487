//! How often each symbol was called, and each remarkable thing happened.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static ALL: Mutex<Vec<&'static Counter>> = Mutex::new(Vec::new());

pub struct Counter {
    name: &'static str,
    count: AtomicU64,
}

impl Counter {
    pub const fn new(name: &'static str) -> Counter {
        Counter {
            name,
            count: AtomicU64::new(0),
        }
    }

    pub fn hit(&'static self) {
        if self.count.fetch_add(1, Relaxed) == 0 {
            ALL.lock().unwrap().push(self);
        }
    }
}

pub fn count(name: &str) -> u64 {
    let all = ALL.lock().unwrap();
    let of_name = all.iter().filter(|counter| counter.name == name);
    of_name.map(|counter| counter.count.load(Relaxed)).sum()
}
