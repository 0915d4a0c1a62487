//! Profiles with a planted bottleneck, for the tests of the rules.

use std::sync::Arc;

use crate::diagnose::{Thresholds, diagnose};
use crate::model::{
    Bucket, Diagnosis, Distribution, Finding, Nanos, OnCpu, PathStats, Profile, Site, SiteId,
    SiteStats, Stats, ThreadStats,
};

pub(crate) const MS: u64 = 1_000_000;

pub(crate) fn distribution(values: &[(u64, u64)]) -> Distribution {
    let filled = values.iter().filter(|(_, count)| *count > 0);
    let buckets: Vec<Bucket> = filled
        .map(|&(value, count)| Bucket {
            value: Nanos(value),
            count,
        })
        .collect();
    let sum = Nanos(values.iter().map(|(value, count)| value * count).sum());
    let min = buckets.first().map_or(Nanos::ZERO, |bucket| bucket.value);
    let max = buckets.last().map_or(Nanos::ZERO, |bucket| bucket.value);
    Distribution::from_buckets(buckets, sum, min, max, 0)
}

/// Plain spans that took these times, `(ns, how often)` by rising time, all of it their own.
pub(crate) fn plain(values: &[(u64, u64)]) -> Stats {
    let activation = distribution(values);
    Stats {
        calls: activation.count,
        spans: activation.count,
        activations: activation.count,
        busy: activation.sum,
        self_time: activation.sum,
        activation,
        ..Stats::default()
    }
}

/// Async spans with these polls, all of one latency.
pub(crate) fn polled(polls: &[(u64, u64)], spans: u64, latency: u64) -> Stats {
    let mut stats = plain(polls);
    stats.calls = spans;
    stats.spans = spans;
    stats.latency = Some(distribution(&[(latency, spans)]));
    stats.idle = Some(Nanos(latency * spans).saturating_sub(stats.busy));
    stats
}

pub(crate) fn sampled(mut stats: Stats, samples: u64, running: u64) -> Stats {
    stats.on_cpu = Some(OnCpu::new(samples, running));
    stats
}

/// Puts part of the time into spans inside.
pub(crate) fn own(mut stats: Stats, self_ns: u64) -> Stats {
    stats.self_time = Nanos(self_ns);
    stats
}

/// A profile in the making; every path is a site of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Planted {
    pub(crate) profile: Profile,
}

impl Planted {
    /// A run of one thread.
    pub(crate) fn run(wall_ms: u64) -> Planted {
        Planted::on_threads(1, wall_ms)
    }

    /// A run in which every thread is busy for `wall_ms`.
    pub(crate) fn on_threads(threads: u64, wall_ms: u64) -> Planted {
        let wall = Nanos(wall_ms * MS);
        let mut planted = Planted::default();
        planted.profile.wall = wall;
        planted.profile.split.thread_time = Nanos(threads * wall.0);
        planted.profile.split.busy = Nanos(threads * wall.0);
        for index in 0..threads {
            planted.profile.threads.push(ThreadStats {
                name: format!("thread-{index}"),
                threads: 1,
                observed: wall,
                busy: wall,
                ..ThreadStats::default()
            });
        }
        planted
    }

    /// Makes the threads workers of an async runtime.
    pub(crate) fn workers(mut self) -> Planted {
        for thread in &mut self.profile.threads {
            thread.async_sites = 2;
        }
        self
    }

    /// Lets every thread be busy for so long only.
    pub(crate) fn busy(mut self, ms: u64) -> Planted {
        for thread in &mut self.profile.threads {
            thread.busy = Nanos(ms * MS);
        }
        self.profile.split.busy = self.profile.threads.iter().map(|thread| thread.busy).sum();
        self
    }

    /// Adds a site with one path, below the path with the index `parent`.
    pub(crate) fn site(
        mut self,
        name: &'static str,
        parent: Option<usize>,
        stats: Stats,
    ) -> Planted {
        let id = SiteId(u32::try_from(self.profile.sites.len()).unwrap() + 1);
        let site = Arc::new(Site::new(id, name, "app", Some("src/app.rs"), Some(id.0)));
        let depth = parent.map_or(0, |parent| self.profile.paths[parent].depth + 1);
        let path = PathStats::new(parent, depth, Arc::clone(&site), stats.clone());
        self.profile.paths.push(path);
        let mut row = SiteStats::new(site, stats);
        row.threads = 1;
        row.workers = u32::from(row.stats.is_async());
        self.profile.sites.push(row);
        self
    }

    pub(crate) fn diagnosis(&self) -> Diagnosis {
        diagnose(&self.profile, &Thresholds::default())
    }

    pub(crate) fn findings(&self, rule: &str) -> Vec<Finding> {
        let findings = self.diagnosis().findings.into_iter();
        findings.filter(|finding| finding.rule == rule).collect()
    }

    /// Returns the only finding of a rule.
    pub(crate) fn finding(&self, rule: &str) -> Finding {
        let mut findings = self.findings(rule);
        assert_eq!(findings.len(), 1, "{rule}: {findings:#?}");
        findings.remove(0)
    }

    pub(crate) fn is_silent(&self, rule: &str) -> bool {
        self.findings(rule).is_empty() && self.diagnosis().is_healthy(rule_id(rule))
    }
}

fn rule_id(rule: &str) -> &'static str {
    let mut rules = crate::diagnose::rules::in_order();
    rules
        .find(|known| known.id == rule)
        .map(|known| known.id)
        .unwrap()
}
