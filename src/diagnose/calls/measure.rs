//! Counts, times and quantiles, weighted by the roots that trees stand for.

use crate::diagnose::fields;
use crate::diagnose::replay::Weighted;
use crate::model::{Nanos, TreeSpan};

/// Figures of some calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measure {
    /// Calls in the trees.
    pub(crate) seen: u64,
    /// Calls in all roots, as far as the trees tell.
    pub(crate) count: f64,
    pub(crate) errors: f64,
    /// How long all of them take together, in nanoseconds.
    pub(crate) total: f64,
    /// The same with the weights of `count`.
    sum: f64,
    pub(crate) longest: Nanos,
    /// Each with the calls that it stands for.
    lengths: Vec<(Nanos, f64)>,
    rows: Mean,
    bytes: Mean,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>, weight: f64) {
        if let Some(value) = value {
            self.sum += value * weight;
            self.weight += weight;
        }
    }

    fn get(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// Rows of an answer, or that were changed.
const ROWS: [&str; 4] = [
    "db.response.returned_rows",
    "db.rows_returned",
    "rows",
    "db.rows_affected",
];
const BYTES: [&str; 5] = [
    "http.response.body.size",
    "http.response_content_length",
    "db.response.bytes",
    "io.bytes",
    "bytes",
];

/// From so many seen calls on, a share of them is within 16 points of that of all.
const ENOUGH_SEEN: u64 = 10;

/// More than that of anything is nonsense, and sums of it would not be numbers.
const MOST: f64 = 1e15;

/// Returns an amount that a field says.
pub(crate) fn amount(span: &TreeSpan, name: &str) -> Option<f64> {
    fields::amount(span, name).map(|amount| amount.min(MOST))
}

/// Returns how many rows a call brought.
pub(crate) fn rows(span: &TreeSpan) -> Option<f64> {
    ROWS.iter().find_map(|name| amount(span, name))
}

/// Returns how many bytes a call moved.
pub(crate) fn bytes(span: &TreeSpan) -> Option<f64> {
    BYTES.iter().find_map(|name| amount(span, name))
}

impl Measure {
    /// Adds a call of this tree.
    pub(crate) fn add(&mut self, span: &TreeSpan, tree: Weighted<'_>) {
        self.add_length(span.length(), tree);
        self.errors += f64::from(u8::from(span.error)) * tree.number;
        self.rows.add(rows(span), tree.number);
        self.bytes.add(bytes(span), tree.number);
    }

    /// Adds a time only.
    pub(crate) fn add_length(&mut self, length: Nanos, tree: Weighted<'_>) {
        self.seen += 1;
        self.count += tree.number;
        self.total += length.0 as f64 * tree.roots;
        self.sum += length.0 as f64 * tree.number;
        self.longest = self.longest.max(length);
        self.lengths.push((length, tree.number));
    }

    /// Whether there were so many calls, and enough of them were seen to tell how the others are.
    pub(crate) fn is_enough(&self, calls: u64) -> bool {
        self.count.round() >= calls as f64 && self.seen >= calls.min(ENOUGH_SEEN)
    }

    pub(crate) fn merge(&mut self, other: &Measure) {
        self.seen += other.seen;
        self.count += other.count;
        self.errors += other.errors;
        self.total += other.total;
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
        self.lengths.extend_from_slice(&other.lengths);
        for (mine, theirs) in [(&mut self.rows, other.rows), (&mut self.bytes, other.bytes)] {
            mine.sum += theirs.sum;
            mine.weight += theirs.weight;
        }
    }

    pub(crate) fn total(&self) -> Nanos {
        Nanos(self.total as u64)
    }

    pub(crate) fn mean(&self) -> Nanos {
        match self.count > 0.0 {
            true => Nanos((self.sum / self.count) as u64),
            false => Nanos::ZERO,
        }
    }

    /// Returns how long the share `quantile` of all calls took at most.
    pub(crate) fn quantile(&self, quantile: f64) -> Nanos {
        let mut lengths = self.lengths.clone();
        lengths.sort_unstable_by_key(|&(length, _)| length);
        let mut left = quantile * self.count;
        for &(length, weight) in &lengths {
            left -= weight;
            // Sums of weights are not exact.
            if left <= 1e-9 * self.count {
                return length;
            }
        }
        lengths.last().map_or(Nanos::ZERO, |&(length, _)| length)
    }

    pub(crate) fn rows(&self) -> Option<f64> {
        self.rows.get()
    }

    pub(crate) fn bytes(&self) -> Option<f64> {
        self.bytes.get()
    }
}
