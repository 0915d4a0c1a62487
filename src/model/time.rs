//! Time as every stage sees it: nanoseconds since the capture began, and one anchor to wall-clock time.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// A point in time or a length of time, in nanoseconds.
///
/// As a point it counts from the start of the capture. All arithmetic saturates: a clock that steps back gives zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all, or the start of the capture.
    pub const ZERO: Nanos = Nanos(0);

    /// Returns the length in seconds, for ratios and for people.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Returns the length in milliseconds, for ratios and for people.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Returns `self - earlier`, or zero if `earlier` is later.
    pub fn saturating_sub(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns `self + length`, or the largest value if that overflows.
    pub fn saturating_add(self, length: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(length.0))
    }

    /// Returns this length as a share of `whole`, or zero when `whole` is zero.
    pub fn share_of(self, whole: Nanos) -> f64 {
        if whole.0 == 0 {
            0.0
        } else {
            self.0 as f64 / whole.0 as f64
        }
    }
}

impl From<Duration> for Nanos {
    fn from(value: Duration) -> Nanos {
        Nanos(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(value: Nanos) -> Duration {
        Duration::from_nanos(value.0)
    }
}

impl std::iter::Sum for Nanos {
    fn sum<I: Iterator<Item = Nanos>>(lengths: I) -> Nanos {
        lengths.fold(Nanos::ZERO, Nanos::saturating_add)
    }
}

/// Prints three significant digits with the unit that fits: `17 ns`, `4.21 us`, `1.50 ms`, `12.0 s`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0 as f64;
        let (value, unit) = match self.0 {
            0..=999 => return f.pad(&format!("{} ns", self.0)),
            1_000..=999_499 => (ns / 1e3, "us"),
            999_500..=999_499_999 => (ns / 1e6, "ms"),
            _ => (ns / 1e9, "s"),
        };
        let digits = match value {
            v if v < 9.995 => 2,
            v if v < 99.95 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

/// Ties the capture's clock to wall-clock time, read once at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct WallAnchor {
    /// Nanoseconds since the Unix epoch at [`Nanos::ZERO`].
    pub unix_ns: u64,
}

impl WallAnchor {
    /// Returns the Unix time of a point in the capture, in nanoseconds.
    pub fn unix_ns_at(self, at: Nanos) -> u64 {
        self.unix_ns.saturating_add(at.0)
    }
}

/// Converts raw clock ticks to [`Nanos`]: `(ticks - origin) * multiplier >> 32`.
///
/// The conversion is monotone, so intervals that nest in ticks nest in nanoseconds too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TickScale {
    /// The tick at [`Nanos::ZERO`].
    pub(crate) origin: u64,
    /// Nanoseconds for each 2^32 ticks.
    pub(crate) nanos_per_4g_ticks: u64,
}

impl TickScale {
    /// Returns a scale on which one tick is one nanosecond and the origin is zero.
    pub(crate) const fn nanoseconds() -> TickScale {
        TickScale {
            origin: 0,
            nanos_per_4g_ticks: 1 << 32,
        }
    }

    /// Converts a point in time; ticks before the origin become zero.
    pub(crate) fn at(self, tick: u64) -> Nanos {
        self.length(tick.saturating_sub(self.origin))
    }

    /// Returns how many ticks a length has.
    pub(crate) fn ticks(self, length: Nanos) -> u64 {
        let ticks = (u128::from(length.0) << 32) / u128::from(self.nanos_per_4g_ticks.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Converts a number of ticks.
    pub(crate) fn length(self, ticks: u64) -> Nanos {
        let nanos = (u128::from(ticks) * u128::from(self.nanos_per_4g_ticks)) >> 32;
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
