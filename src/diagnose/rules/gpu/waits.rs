//! The host's time that is waiting for devices: other rules shall not look for its cause again.

use crate::diagnose::board::Claim;
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::gpu::device;
use crate::model::{Nanos, SiteId};

/// Returns what each site's own code waited for devices, in calls that wait and in copies that hold it up.
pub(super) fn of_host(evidence: &Evidence<'_>) -> Vec<Claim> {
    let sites = device::sites(evidence);
    let waits = sites.map(|(row, gpu)| {
        let wait = gpu.own.sync_time.saturating_add(gpu.own.blocking_time);
        Claim {
            site: row.site.id,
            time: wait.min(row.stats.self_time),
        }
    });
    waits.filter(|claim| claim.time > Nanos::ZERO).collect()
}

/// Returns all own time of the paths at and below a site.
pub(super) fn at_and_below(evidence: &Evidence<'_>, site: SiteId) -> Vec<Claim> {
    let paths = &evidence.profile.paths;
    let mut inside = vec![false; paths.len()];
    let mut claims = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let above = evidence.parent(index).is_some_and(|parent| inside[parent]);
        inside[index] = above || path.site.id == site;
        if inside[index] && path.stats.self_time > Nanos::ZERO {
            claims.push(Claim {
                site: path.site.id,
                time: path.stats.self_time,
            });
        }
    }
    claims
}
