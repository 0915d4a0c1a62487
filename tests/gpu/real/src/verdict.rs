//! Whether what tracing-cortex says is what events and the program say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracing_cortex::{GpuProfile, GpuStats};

use crate::cases::{Compare, Expected, Work};
use crate::machine::Loaded;
use crate::observed::Observed;

/// The larger of both is allowed.
pub const SHARE: f64 = 0.02;
pub const NS: f64 = 2_000.0;

/// What is said of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub name: String,
    pub what: String,
    pub compiled_by: String,
    pub cupti: Option<Loaded>,
    pub compare: Compare,
    /// Per span, in their order: by tracing-cortex, and by events.
    pub ours_ns: Vec<f64>,
    pub by_hand_ns: Vec<f64>,
    pub kernels: u64,
    pub copies: u64,
    pub to_device_bytes: u64,
    pub to_host_bytes: u64,
    pub pageable_bytes: u64,
    pub launches: u64,
    /// Functions of the driver that started work.
    pub functions: Vec<String>,
    /// Of one piece of work, by its kernel or direction.
    pub median_ns: BTreeMap<String, u64>,
    /// How far inside its call and its wait work lay, at least.
    pub after_call_ns: Option<i64>,
    pub before_return_ns: Option<i64>,
    /// For programs that repeat it.
    pub work: Option<Work>,
    /// Everything that is not as it must be; empty if all is well.
    pub problems: Vec<String>,
    /// Why the case was not run.
    pub skipped: Option<String>,
}

/// What the statistics say.
pub struct Said<'a> {
    pub stats: Option<&'a GpuStats>,
    pub gpu: Option<&'a GpuProfile>,
    /// By how much CUPTI's times may be off the host's clock, for the order of calls and work.
    pub order_ns: i64,
}

impl Done {
    pub fn new(name: &str, what: &str) -> Done {
        Done {
            name: name.to_owned(),
            what: what.to_owned(),
            compiled_by: String::new(),
            cupti: None,
            compare: Compare::Busy,
            ours_ns: Vec::new(),
            by_hand_ns: Vec::new(),
            kernels: 0,
            copies: 0,
            to_device_bytes: 0,
            to_host_bytes: 0,
            pageable_bytes: 0,
            launches: 0,
            functions: Vec::new(),
            median_ns: BTreeMap::new(),
            after_call_ns: None,
            before_return_ns: None,
            work: None,
            problems: Vec::new(),
            skipped: None,
        }
    }

    /// Fills in what was seen of `by_hand.len()` spans, and says what is wrong with it.
    pub fn judge(
        &mut self,
        expected: &Expected,
        by_hand_ns: Vec<f64>,
        seen: &Observed,
        said: &Said<'_>,
    ) {
        self.compare = expected.compare;
        self.functions = seen.functions.iter().map(ToString::to_string).collect();
        self.median_ns = seen
            .lengths
            .iter()
            .map(|(what, all)| (what.clone(), median(all)))
            .collect();
        self.ours_ns = seen
            .spans
            .values()
            .map(|span| match expected.compare {
                Compare::Busy => span.busy() as f64,
                Compare::Extent => span.extent() as f64,
            })
            .collect();
        self.judge_times(&by_hand_ns);
        self.by_hand_ns = by_hand_ns;
        self.judge_sums(expected, seen, said);
        self.judge_order(seen, said.order_ns);
        if expected.overlap {
            let (sum, busy) = seen.spans.values().fold((0, 0), |(sum, busy), span| {
                (sum + span.sum(), busy + span.busy())
            });
            if (sum as f64) < 1.25 * busy as f64 {
                self.problems.push(format!(
                    "the streams hardly overlap: {sum} ns of work in {busy} ns"
                ));
            }
        }
    }

    pub fn judge_times(&mut self, by_hand_ns: &[f64]) {
        if self.ours_ns.len() != by_hand_ns.len() {
            let (ours, theirs) = (self.ours_ns.len(), by_hand_ns.len());
            self.problems.push(format!(
                "{ours} spans have device time and {theirs} were made"
            ));
        }
        // Events show as well when the host pauses between the event and the launch, so a single span proves nothing.
        let pairs = self.ours_ns.iter().zip(by_hand_ns);
        let beyond =
            pairs.filter(|(ours, by_hand)| (*ours - *by_hand).abs() > NS.max(SHARE * **by_hand));
        let beyond: Vec<_> = beyond.collect();
        if 2 * beyond.len() > by_hand_ns.len() {
            for (ours, by_hand) in beyond {
                self.problems.push(format!(
                    "{ours:.0} ns by tracing-cortex, {by_hand:.0} ns by events"
                ));
            }
        }
    }

    fn judge_sums(&mut self, expected: &Expected, seen: &Observed, said: &Said<'_>) {
        let mut wrong = Vec::new();
        let spans = self.by_hand_ns.len() as u64;
        let own = said
            .stats
            .map(|stats| stats.own.clone())
            .unwrap_or_default();
        self.kernels = own.kernels;
        self.copies = own.copies;
        self.to_device_bytes = own.to_device_bytes;
        self.to_host_bytes = own.to_host_bytes;
        self.pageable_bytes = own.pageable_bytes;
        self.launches = own.launches;
        let mut equal = |what: &str, ours: u64, wanted: u64| {
            if ours != wanted {
                wrong.push(format!("{what}: {ours}, and there were {wanted}"));
            }
        };
        match expected.kernels {
            Some(kernels) => equal("kernels", own.kernels, kernels * spans),
            None => equal("spans with kernels", u64::from(own.kernels >= spans), 1),
        }
        if let Some(launches) = expected.launches {
            equal("calls that start work", own.launches, launches * spans);
        }
        equal("copies", own.copies, expected.copies * spans);
        equal(
            "bytes to the device",
            own.to_device_bytes,
            expected.to_device_bytes * spans,
        );
        equal(
            "bytes to the host",
            own.to_host_bytes,
            expected.to_host_bytes * spans,
        );
        equal(
            "pageable bytes",
            own.pageable_bytes,
            expected.pageable_bytes * spans,
        );
        let sums = seen.spans.values().fold((0, 0), |(sum, busy), span| {
            (sum + span.sum(), busy + span.busy())
        });
        equal(
            "time of kernels and copies in the profile",
            own.kernel_time.0 + own.copy_time.0,
            sums.0,
        );
        equal("busy time in the profile", own.busy.0, sums.1);
        match said.gpu {
            None => wrong.push("the profile has nothing on GPUs".to_owned()),
            Some(gpu) => {
                for notice in &gpu.notices {
                    wrong.push(format!(
                        "not measured: {}, because {}",
                        notice.what, notice.why
                    ));
                }
                for (what, count) in [
                    ("pieces of work without a call", gpu.unattributed),
                    ("records dropped by the driver", gpu.dropped_records),
                    ("calls dropped", gpu.dropped_calls),
                    ("pieces of work that never ended", gpu.unfinished),
                    ("calls of unknown functions", gpu.unknown_calls),
                ] {
                    if count > 0 {
                        wrong.push(format!("{count} {what}"));
                    }
                }
            }
        }
        self.problems.append(&mut wrong);
    }

    fn judge_order(&mut self, seen: &Observed, order_ns: i64) {
        let spans = || seen.spans.values();
        self.after_call_ns = spans().filter_map(|span| span.after_call()).min();
        self.before_return_ns = spans().filter_map(|span| span.before_return()).min();
        for (what, margin) in [
            (
                "work began before the call that started it",
                self.after_call_ns,
            ),
            (
                "work ended after the wait for it returned",
                self.before_return_ns,
            ),
        ] {
            match margin {
                Some(margin) if margin < -order_ns => {
                    self.problems.push(format!("{what}, by {} ns", -margin));
                }
                Some(_) => {}
                None => self.problems.push(format!("nothing says whether {what}")),
            }
        }
    }

    /// Returns the largest difference of a span, in nanoseconds.
    pub fn worst_ns(&self) -> f64 {
        let pairs = self.ours_ns.iter().zip(&self.by_hand_ns);
        pairs
            .map(|(ours, by_hand)| (ours - by_hand).abs())
            .fold(0.0, f64::max)
    }

    /// Returns the difference of the sums, as a share of what events say.
    pub fn difference(&self) -> Option<f64> {
        let by_hand: f64 = self.by_hand_ns.iter().sum();
        let ours: f64 = self.ours_ns.iter().sum();
        (by_hand > 0.0).then(|| (ours - by_hand) / by_hand)
    }
}

pub fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use tracing_cortex::SpanSeq;

    use super::*;
    use crate::observed::{Interval, OfSpan};

    /// One span with one kernel of `ns`, and statistics that agree.
    fn judged(
        ns: u64,
        by_hand_ns: f64,
        change: impl FnOnce(&mut GpuStats, &mut GpuProfile, &mut Observed),
    ) -> Done {
        let mut seen = Observed::default();
        let work = Interval {
            start: 1_000,
            end: 1_000 + ns,
        };
        let wait = Interval {
            start: 900,
            end: 2_000 + ns,
        };
        let span = OfSpan {
            work: vec![work],
            called: vec![800],
            waits: vec![wait],
        };
        seen.spans.insert(SpanSeq(7), span);
        let mut stats = GpuStats::default();
        stats.own.kernels = 1;
        stats.own.launches = 1;
        stats.own.busy.0 = ns;
        stats.own.kernel_time.0 = ns;
        let mut gpu = GpuProfile::default();
        change(&mut stats, &mut gpu, &mut seen);
        let said = Said {
            stats: Some(&stats),
            gpu: Some(&gpu),
            order_ns: 100,
        };
        let expected = Expected {
            kernels: Some(1),
            launches: Some(1),
            ..Expected::default()
        };
        let mut done = Done::new("case", "");
        done.judge(&expected, vec![by_hand_ns], &seen, &said);
        done
    }

    #[test]
    fn two_percent_or_two_microseconds_are_allowed() {
        let problems = |ns, by_hand| judged(ns, by_hand, |_, _, _| ()).problems;
        assert_eq!(problems(1_000_000, 1_019_000.0), [""; 0]);
        assert_eq!(problems(1_000_000, 1_021_000.0).len(), 1);
        assert_eq!(problems(10_000, 11_990.0), [""; 0]);
        assert_eq!(problems(10_000, 12_010.0).len(), 1);
        assert_eq!(problems(10_000, 7_990.0).len(), 1);
    }

    #[test]
    fn most_of_the_spans_must_be_right() {
        let problems = |by_hand: [f64; 3]| {
            let mut done = Done::new("case", "");
            done.ours_ns = vec![100_000.0; 3];
            done.judge_times(&by_hand);
            done.problems.len()
        };
        assert_eq!(problems([100_000.0, 100_000.0, 4_000_000.0]), 0);
        assert_eq!(problems([100_000.0, 110_000.0, 4_000_000.0]), 2);
    }

    #[test]
    fn counts_must_be_exact() {
        let done = judged(5_000, 5_000.0, |stats, _, _| stats.own.kernels = 2);
        assert_eq!(done.problems, ["kernels: 2, and there were 1"]);
        let done = judged(5_000, 5_000.0, |stats, _, _| stats.own.to_host_bytes = 4);
        assert_eq!(done.problems, ["bytes to the host: 4, and there were 0"]);
    }

    #[test]
    fn every_loss_is_a_problem() {
        let done = judged(5_000, 5_000.0, |_, gpu, _| gpu.dropped_calls = 3);
        assert_eq!(done.problems, ["3 calls dropped"]);
    }

    #[test]
    fn a_span_without_device_time_is_a_problem() {
        let done = judged(5_000, 5_000.0, |_, _, seen| seen.spans.clear());
        assert!(
            done.problems[0].contains("0 spans have device time and 1 were made"),
            "{:?}",
            done.problems
        );
    }

    #[test]
    fn work_before_its_call_is_a_problem_beyond_the_error_of_the_clock() {
        let begun = |called: u64| {
            judged(5_000, 5_000.0, move |_, _, seen| {
                seen.spans.get_mut(&SpanSeq(7)).unwrap().called = vec![called];
            })
        };
        assert_eq!(begun(1_100).problems, [""; 0]);
        assert_eq!(
            begun(1_101).problems,
            ["work began before the call that started it, by 101 ns"]
        );
    }

    #[test]
    fn differences_are_told_as_a_share_and_at_their_worst() {
        let done = judged(5_000, 4_000.0, |_, _, _| ());
        assert_eq!(done.difference(), Some(0.25));
        assert_eq!(done.worst_ns(), 1_000.0);
    }
}
