//! The slowest operations of each site, to look up in a trace viewer.

use crate::model::{Example, Ids, Nanos, SiteId};

const MOST: usize = 3;

/// Slow operations by site.
#[derive(Debug, Default)]
pub(super) struct Examples {
    sites: Vec<OfSite>,
}

#[derive(Debug, Clone, Default)]
struct OfSite {
    /// The slowest first.
    slowest: Vec<Example>,
    /// What an operation must exceed to be among them.
    bar: Nanos,
}

impl Examples {
    #[inline]
    pub(super) fn offer(&mut self, site: SiteId, ids: &Ids, start: Nanos, end: Nanos) {
        let duration = end.saturating_sub(start);
        let known = self.sites.get(site.0 as usize);
        if known.is_some_and(|of_site| of_site.slowest.len() == MOST && duration <= of_site.bar) {
            return;
        }
        self.add(
            site,
            Example {
                trace_id: ids.trace,
                span_id: ids.span,
                start,
                duration,
                sampled: ids.sampled,
            },
        );
    }

    fn add(&mut self, site: SiteId, example: Example) {
        let index = site.0 as usize;
        if self.sites.len() <= index {
            self.sites.resize(index + 1, OfSite::default());
        }
        let Some(of_site) = self.sites.get_mut(index) else {
            return;
        };
        let slowest = &mut of_site.slowest;
        let at = slowest.partition_point(|known| known.duration >= example.duration);
        slowest.insert(at, example);
        slowest.truncate(MOST);
        of_site.bar = slowest.last().map_or(Nanos::ZERO, |last| last.duration);
    }

    pub(super) fn of(&self, site: SiteId) -> Vec<Example> {
        let of_site = self.sites.get(site.0 as usize);
        of_site.map_or(Vec::new(), |of_site| of_site.slowest.clone())
    }
}
