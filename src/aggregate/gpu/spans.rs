//! What devices did, by call path and by site.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::busy::Busy;
use super::sums::Sums;
use crate::model::{GpuCall, GpuStats, GpuWork, Nanos, PathId, SiteId};

/// Returns the nodes from the root to a path, with their sites; the order does not matter.
pub(crate) type StepsOf<'a> = dyn Fn(PathId) -> Vec<(PathId, SiteId)> + 'a;

/// Intervals that all paths and sites together keep apart, about 24 MiB, and what one of them keeps at least and at most.
const INTERVALS: usize = 1_048_576;
const LEAST: usize = 64;
const MOST: usize = 4_096;

/// Paths and sites that had devices do something.
#[derive(Debug, Default)]
pub(super) struct Spans {
    paths: HashMap<PathId, Sums>,
    above: HashMap<PathId, Arc<Above>>,
    busy_paths: HashMap<PathId, Unions>,
    busy_sites: HashMap<SiteId, Unions>,
}

/// Everything to which a path's work counts.
#[derive(Debug)]
struct Above {
    site: SiteId,
    /// With the path itself.
    paths: Vec<PathId>,
    /// Each once: a site that calls itself counts once.
    sites: BTreeSet<SiteId>,
}

/// Unions do not add up, so there is one for each place where work counts.
#[derive(Debug, Default)]
struct Unions {
    total: Busy,
    own: Busy,
}

impl Spans {
    pub(super) fn add_call(&mut self, path: PathId, call: &GpuCall, steps_of: &StepsOf<'_>) {
        self.above(path, steps_of);
        self.paths.entry(path).or_default().add_call(call);
    }

    pub(super) fn add_work(
        &mut self,
        path: PathId,
        work: &GpuWork,
        delay: Option<Nanos>,
        most: usize,
        steps_of: &StepsOf<'_>,
    ) {
        let above = self.above(path, steps_of);
        self.paths.entry(path).or_default().add_work(work, delay);
        for &path in &above.paths {
            let unions = self.busy_paths.entry(path).or_default();
            unions.total.add(work, most);
        }
        for &site in &above.sites {
            let unions = self.busy_sites.entry(site).or_default();
            unions.total.add(work, most);
        }
        let of_path = self.busy_paths.entry(path).or_default();
        of_path.own.add(work, most);
        let of_site = self.busy_sites.entry(above.site).or_default();
        of_site.own.add(work, most);
    }

    /// Returns how many intervals each union may keep apart now.
    pub(super) fn intervals(&self) -> usize {
        let all = self.busy_paths.values().chain(self.busy_sites.values());
        let unions: usize = all.map(|two| two.total.unions() + two.own.unions()).sum();
        (INTERVALS / unions.max(1)).clamp(LEAST, MOST)
    }

    /// Returns the statistics of all paths and sites.
    pub(super) fn stats(
        &self,
        measured: &BTreeSet<u32>,
    ) -> (HashMap<PathId, GpuStats>, HashMap<SiteId, GpuStats>) {
        let mut paths: HashMap<PathId, [Sums; 2]> = HashMap::new();
        let mut sites: HashMap<SiteId, [Sums; 2]> = HashMap::new();
        for (path, sums) in &self.paths {
            let Some(above) = self.above.get(path) else {
                continue;
            };
            for path in &above.paths {
                paths.entry(*path).or_default()[0].absorb(sums);
            }
            for site in &above.sites {
                sites.entry(*site).or_default()[0].absorb(sums);
            }
            paths.entry(*path).or_default()[1].absorb(sums);
            sites.entry(above.site).or_default()[1].absorb(sums);
        }
        let none = Unions::default();
        let stats = |[total, own]: [Sums; 2], unions: Option<&Unions>| {
            let unions = unions.unwrap_or(&none);
            GpuStats {
                total: total.totals(unions.total.length(measured)),
                own: own.totals(unions.own.length(measured)),
            }
        };
        let of_path = |(path, sums)| (path, stats(sums, self.busy_paths.get(&path)));
        let of_site = |(site, sums)| (site, stats(sums, self.busy_sites.get(&site)));
        (
            paths.into_iter().map(of_path).collect(),
            sites.into_iter().map(of_site).collect(),
        )
    }

    fn above(&mut self, path: PathId, steps_of: &StepsOf<'_>) -> Arc<Above> {
        let above = self.above.entry(path).or_insert_with(|| {
            let steps = steps_of(path);
            let own = steps.iter().find(|(step, _)| *step == path);
            Arc::new(Above {
                site: own.map_or(SiteId::OTHER, |(_, site)| *site),
                paths: steps.iter().map(|(path, _)| *path).collect(),
                sites: steps.iter().map(|(_, site)| *site).collect(),
            })
        });
        Arc::clone(above)
    }
}
