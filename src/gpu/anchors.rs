//! Puts a device's clock on the capture's clock.

use std::collections::VecDeque;

use crate::model::Nanos;

/// Pairs of times that were read at the same moment, by rising time of the device.
///
/// Between two pairs, times follow the line through both: clocks drift, by up to 200 ppm and not evenly, so that a
/// single offset is wrong by 0.2 ms after a second. Outside, the nearest two are continued.
#[derive(Debug, Clone, Default)]
pub(super) struct Anchors {
    pairs: VecDeque<(i128, i128)>,
}

/// At least a hundred seconds of anchors: work that takes longer to arrive is placed by the oldest ones.
const MOST: usize = 1_024;

/// Between two anchors that are kept. The line through two that are closer shows how exactly the clocks were read, and not
/// how they drift.
const APART: i128 = 100_000_000;

impl Anchors {
    /// Adds a pair; one that is not later than the newest is left out.
    pub(super) fn add(&mut self, device_ns: u64, host: Nanos) {
        let pair = (i128::from(device_ns), i128::from(host.0));
        if self
            .pairs
            .back()
            .is_some_and(|&(newest, _)| newest >= pair.0)
        {
            return;
        }
        // The newest is always there, and gives way to one that is newer until it is far enough from the one before.
        if let [.., (_, before), (_, newest)] = *self.pairs.make_contiguous()
            && newest - before < APART
        {
            self.pairs.pop_back();
        }
        if self.pairs.len() == MOST {
            self.pairs.pop_front();
        }
        self.pairs.push_back(pair);
    }

    /// Returns a device's time on the capture's clock; `None` without an anchor.
    pub(super) fn place(&self, device_ns: u64) -> Option<Nanos> {
        let at = i128::from(device_ns);
        let after = self.pairs.partition_point(|&(device, _)| device <= at);
        let last = self.pairs.len().checked_sub(1)?;
        let to = after.clamp(1.min(last), last);
        let from = to.saturating_sub(1);
        let (&(from_device, from_host), &(to_device, to_host)) =
            (self.pairs.get(from)?, self.pairs.get(to)?);
        let host = match to_device - from_device {
            0 => from_host + (at - from_device),
            length => from_host + (at - from_device) * (to_host - from_host) / length,
        };
        Some(Nanos(u64::try_from(host.max(0)).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_an_anchor_nothing_can_be_placed() {
        assert_eq!(Anchors::default().place(1), None);
    }

    /// A flush may come at any time.
    #[test]
    fn anchors_that_are_close_do_not_push_out_older_ones() {
        let mut anchors = Anchors::default();
        for at in 0..100_000 {
            anchors.add(at * 1_000_000 + 5, Nanos(at * 1_000_000));
        }
        assert!(anchors.pairs.len() <= MOST);
        assert_eq!(anchors.pairs.front(), Some(&(5, 0)));
        let newest = (99_999_000_005, 99_999_000_000);
        assert_eq!(anchors.pairs.back(), Some(&newest));
    }

    #[test]
    fn one_anchor_gives_an_offset() {
        let mut anchors = Anchors::default();
        anchors.add(1_000, Nanos(50));
        assert_eq!(anchors.place(1_100), Some(Nanos(150)));
        assert_eq!(anchors.place(990), Some(Nanos(40)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// An hour of a clock whose drift wanders by 200 ppm either way, with an anchor every second.
        #[test]
        fn an_hour_of_wandering_drift_is_off_by_less_than_ten_microseconds(
            offset in 0_u64..1 << 40,
            phase in 0.0..6.0_f64,
        ) {
            // The integral of 200 ppm * sin(t / 60 s + phase).
            let device = |host_ns: u64| {
                let seconds = host_ns as f64 / 1e9;
                let drift = -200e-6 * 60.0 * ((seconds / 60.0 + phase).cos() - phase.cos());
                offset + ((seconds + drift + 1.0) * 1e9) as u64
            };
            let mut anchors = Anchors::default();
            for second in 0..=3_600_u64 {
                anchors.add(device(second * 1_000_000_000), Nanos(second * 1_000_000_000));
                let host = (second * 1_000_000_000).saturating_sub(400_000_000);
                let placed = anchors.place(device(host)).unwrap();
                prop_assert!(placed.0.abs_diff(host) < 10_000, "{} for {host}", placed.0);
            }
        }
    }
}
