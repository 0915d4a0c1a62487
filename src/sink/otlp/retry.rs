//! When to try again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Whether a request that failed is worth another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The receiver has refused it for good.
    Never,
    /// The receiver has no place for anything of this signal.
    NothingOfThisSignal,
    /// Nobody has refused it, and another attempt would not be taken either.
    InVain,
    /// After a while of our own choice.
    Backoff,
    /// Not before the time that the receiver has asked for.
    After(Duration),
    /// Only while the program runs on: somebody has to mend something first.
    NotAtTheEnd,
}

/// Returns how long to wait after so many failures in a row: doubled each time, and different for each process, so
/// that those that failed together do not come back together.
pub(super) fn backoff(failures: u32) -> Duration {
    let doubled = FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
    let longest = doubled.min(LONGEST);
    let random = RandomState::new().hash_one(failures) as u32;
    longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_differ() {
        for (failures, least, most) in
            [(1, 50, 100), (2, 100, 200), (4, 400, 800), (60, 2500, 5000)]
        {
            for _ in 0..100 {
                let wait = backoff(failures).as_millis();
                assert!((least..=most).contains(&wait), "{failures}: {wait} ms");
            }
        }
        assert_ne!(backoff(7), backoff(7));
    }
}
