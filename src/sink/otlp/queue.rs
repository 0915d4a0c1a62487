//! What waits to be sent, bounded in bytes. Knows no thread and no clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::retry::{Again, backoff};
use super::settings::Signal;

/// A request and how it has fared.
#[derive(Debug)]
pub(super) struct Item {
    number: u64,
    pub(super) signal: Signal,
    pub(super) request: Bytes,
    /// Spans or points.
    pub(super) amount: u64,
    pub(super) first_failure: Option<Instant>,
    /// Why it failed last.
    pub(super) why: Option<String>,
}

/// The requests of one signal.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Item>,
    under_way: usize,
    /// While nothing fails.
    at_a_time: usize,
    /// In a row.
    failures: u32,
    /// What the last failure was, until something succeeds.
    last_failure: Option<String>,
    gate: Option<Gate>,
}

/// Nothing is sent before.
#[derive(Debug, Clone, Copy)]
struct Gate {
    opens: Instant,
    /// The receiver has asked for it, so that nobody opens it earlier.
    is_demanded: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    traces: Lane,
    metrics: Lane,
    /// Of all that has no fate yet.
    bytes: usize,
    max_bytes: usize,
    last_number: u64,
    /// Points or spans of everything without a fate, by number.
    outstanding: BTreeMap<u64, (Signal, u64)>,
}

/// The order of metrics matters to receivers.
const METRICS_AT_A_TIME: usize = 1;
/// While the program waits for its end, an attempt more is worth more than peace for the receiver.
const LONGEST_AT_THE_END: Duration = Duration::from_millis(500);

impl Lane {
    fn new(at_a_time: usize) -> Lane {
        Lane {
            at_a_time,
            ..Lane::default()
        }
    }

    fn at_a_time(&self) -> usize {
        match self.failures {
            0 => self.at_a_time,
            // One to see whether the receiver is back.
            _ => 1,
        }
    }
}

impl Queue {
    /// Holds so many bytes, and lets so many requests with spans be under way at a time.
    pub(super) fn new(max_bytes: usize, spans_at_a_time: usize) -> Queue {
        Queue {
            traces: Lane::new(spans_at_a_time),
            metrics: Lane::new(METRICS_AT_A_TIME),
            bytes: 0,
            max_bytes,
            last_number: 0,
            outstanding: BTreeMap::new(),
        }
    }

    fn lane(&mut self, signal: Signal) -> &mut Lane {
        match signal {
            Signal::Traces => &mut self.traces,
            Signal::Metrics => &mut self.metrics,
        }
    }

    /// Adds a request; returns what had to make room for it, perhaps itself.
    pub(super) fn push(&mut self, signal: Signal, request: Vec<u8>, amount: u64) -> Vec<Item> {
        self.last_number += 1;
        let item = Item {
            number: self.last_number,
            signal,
            request: request.into(),
            amount,
            first_failure: None,
            why: None,
        };
        self.outstanding.insert(item.number, (signal, amount));
        self.bytes += item.request.len();
        let fits = item.request.len() <= self.max_bytes;
        let mut given_up = Vec::new();
        while fits && self.bytes > self.max_bytes {
            let other = match signal {
                Signal::Traces => Signal::Metrics,
                Signal::Metrics => Signal::Traces,
            };
            let oldest = self.lane(signal).waiting.pop_front();
            let Some(oldest) = oldest.or_else(|| self.lane(other).waiting.pop_front()) else {
                break;
            };
            self.bytes -= oldest.request.len();
            given_up.push(oldest);
        }
        if self.bytes > self.max_bytes {
            self.bytes -= item.request.len();
            given_up.push(item);
        } else {
            self.lane(signal).waiting.push_back(item);
        }
        given_up
    }

    /// Returns a request that may be sent now.
    pub(super) fn start(&mut self, signal: Signal, now: Instant) -> Option<Item> {
        let lane = self.lane(signal);
        if lane.under_way >= lane.at_a_time() || lane.gate.is_some_and(|gate| now < gate.opens) {
            return None;
        }
        let item = lane.waiting.pop_front()?;
        lane.under_way += 1;
        lane.gate = None;
        Some(item)
    }

    /// Returns when the next request may be sent that may not be sent now for its gate alone.
    pub(super) fn opens(&self) -> Option<Instant> {
        [&self.traces, &self.metrics]
            .into_iter()
            .filter(|lane| !lane.waiting.is_empty() && lane.under_way == 0)
            .filter_map(|lane| Some(lane.gate?.opens))
            .min()
    }

    /// A request that was under way needs nothing more.
    pub(super) fn answered(&mut self, item: &Item, is_taken: bool) {
        self.bytes -= item.request.len();
        let lane = self.lane(item.signal);
        lane.under_way -= 1;
        if is_taken {
            lane.failures = 0;
            lane.last_failure = None;
            lane.gate = lane.gate.filter(|gate| gate.is_demanded);
        }
    }

    /// A request that was under way is to be sent again.
    ///
    /// It goes behind the others: one that the receiver never takes must not keep the rest from it.
    pub(super) fn failed(
        &mut self,
        mut item: Item,
        why: String,
        again: Again,
        now: Instant,
        is_ending: bool,
    ) {
        let lane = self.lane(item.signal);
        lane.under_way -= 1;
        if lane.gate.is_none() {
            // Those that fail together are one failure.
            lane.failures = lane.failures.saturating_add(1);
        }
        let gate = match again {
            Again::After(wait) => Gate {
                opens: now + wait,
                is_demanded: true,
            },
            Again::Never
            | Again::NothingOfThisSignal
            | Again::InVain
            | Again::Backoff
            | Again::NotAtTheEnd => {
                let wait = backoff(lane.failures);
                let longest = if is_ending { LONGEST_AT_THE_END } else { wait };
                Gate {
                    opens: now + wait.min(longest),
                    is_demanded: false,
                }
            }
        };
        // Of several that fail together, what the receiver has asked for counts, and of two waits the longer.
        let later = |known: Gate| (known.is_demanded, known.opens) > (gate.is_demanded, gate.opens);
        lane.gate = Some(lane.gate.filter(|known| later(*known)).unwrap_or(gate));
        item.first_failure.get_or_insert(now);
        lane.last_failure = Some(why.clone());
        item.why = Some(why);
        lane.waiting.push_back(item);
    }

    /// Returns why requests of this kind are failing at the moment.
    pub(super) fn last_failure(&mut self, signal: Signal) -> Option<String> {
        self.lane(signal).last_failure.clone()
    }

    /// Lets everything be tried at once that only our own patience holds back.
    pub(super) fn hurry(&mut self) {
        for lane in [&mut self.traces, &mut self.metrics] {
            lane.gate = lane.gate.filter(|gate| gate.is_demanded);
            lane.failures = lane.failures.min(1);
        }
    }

    /// Removes what the receiver does not want to see before `end`.
    pub(super) fn hopeless(&mut self, end: Instant) -> Vec<Item> {
        let is_hopeless = |gate: Gate| gate.is_demanded && gate.opens >= end;
        let mut given_up = Vec::new();
        for signal in [Signal::Traces, Signal::Metrics] {
            if self.lane(signal).gate.is_some_and(is_hopeless) {
                given_up.extend(self.drain_lane(signal));
            }
        }
        given_up
    }

    /// Removes everything of one signal that waits.
    pub(super) fn drain_lane(&mut self, signal: Signal) -> Vec<Item> {
        let items: Vec<_> = self.lane(signal).waiting.drain(..).collect();
        self.bytes -= items.iter().map(|item| item.request.len()).sum::<usize>();
        items
    }

    /// Removes everything that waits.
    pub(super) fn drain(&mut self) -> Vec<Item> {
        let mut items = self.drain_lane(Signal::Traces);
        items.extend(self.drain_lane(Signal::Metrics));
        items
    }

    /// The request has its fate.
    pub(super) fn forget(&mut self, item: &Item) {
        self.outstanding.remove(&item.number);
    }

    /// The number of the last request.
    pub(super) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Whether every request up to this number has its fate.
    pub(super) fn is_settled(&self, number: u64) -> bool {
        self.outstanding
            .first_key_value()
            .is_none_or(|(first, _)| *first > number)
    }

    /// Metric points without a fate.
    pub(super) fn outstanding_points(&self) -> u64 {
        let all = self.outstanding.values();
        all.filter(|(signal, _)| *signal == Signal::Metrics)
            .map(|(_, points)| points)
            .sum()
    }

    /// Bytes of everything without a fate.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
