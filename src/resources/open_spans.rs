//! How many spans of each callsite are open, over time.

use std::collections::HashMap;

use super::series::append;
use crate::model::{Nanos, Point, Series, SiteId, Unit};

/// The most sites: their readings take 1.3 MiB at most.
const MAX_SITES: usize = 64;

/// With fewer open spans than this, a site is not followed yet. Most never have as many, and a leak has soon.
const FOLLOWED_FROM: u64 = 4;

/// The readings of the sites that have several open spans.
#[derive(Debug, Default)]
pub(super) struct OpenSpans {
    sites: HashMap<SiteId, Series>,
}

impl OpenSpans {
    /// Adds one reading of all sites.
    pub(super) fn record(&mut self, at: Nanos, counts: &HashMap<SiteId, u64>) {
        for (site, series) in &mut self.sites {
            let open = counts.get(site).copied().unwrap_or(0);
            append(series, at, open as f64);
        }
        for (&site, &open) in counts {
            let is_new = open >= FOLLOWED_FROM && !self.sites.contains_key(&site);
            if is_new && self.sites.len() < MAX_SITES {
                let mut series = Series::new("", Unit::Count);
                append(&mut series, at, open as f64);
                self.sites.insert(site, series);
            }
        }
    }

    pub(super) fn readings(&self) -> HashMap<SiteId, Vec<Point>> {
        let sites = self.sites.iter();
        sites
            .map(|(&site, series)| (site, series.points.clone()))
            .collect()
    }

    pub(super) fn reset(&mut self) {
        self.sites.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(open: &[(u32, u64)]) -> HashMap<SiteId, u64> {
        open.iter()
            .map(|&(site, open)| (SiteId(site), open))
            .collect()
    }

    #[test]
    fn a_site_is_followed_from_several_open_spans_on_and_down_to_none() {
        let mut open = OpenSpans::default();
        open.record(Nanos(1), &counts(&[(1, 3), (2, 9)]));
        open.record(Nanos(2), &counts(&[(1, 4)]));
        open.record(Nanos(3), &counts(&[(1, 5)]));
        let readings = open.readings();
        let of = |site| {
            let points = readings[&SiteId(site)].iter();
            points
                .map(|point| (point.at.0, point.mean))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(1), [(2, 4.0), (3, 5.0)]);
        assert_eq!(of(2), [(1, 9.0), (2, 0.0), (3, 0.0)]);
        open.reset();
        assert!(open.readings().is_empty());
    }

    #[test]
    fn there_is_an_end_to_the_sites() {
        let mut open = OpenSpans::default();
        let many: Vec<(u32, u64)> = (0..1_000).map(|site| (site, 10)).collect();
        open.record(Nanos(1), &counts(&many));
        open.record(Nanos(2), &counts(&many));
        assert_eq!(open.readings().len(), MAX_SITES);
    }
}
