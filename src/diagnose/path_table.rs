//! The critical path by site, as the diagnosis tells it.

use crate::diagnose::evidence::Evidence;
use crate::model::{CriticalPath, Nanos, PathSite};

/// Sites that are told; what is below them is below a per cent of the time.
const MOST: usize = 20;

pub(super) fn of(evidence: &Evidence<'_>) -> Option<CriticalPath> {
    let replay = evidence.replay.as_ref()?;
    let (trees, roots) = replay.trees_and_roots();
    let whole = replay.whole();
    let on_path = replay.critical_path();
    let sites = on_path.iter().take(MOST).filter_map(|part| {
        let site = evidence.site_of(part.site)?;
        let removed = replay.site(part.site, 0.0);
        Some(PathSite {
            site: site.name.to_owned(),
            location: site.location(),
            time: Nanos((part.share * whole.0 as f64) as u64),
            share: part.share,
            saving: removed.share,
            saving_low: removed.low,
            saving_high: removed.high,
            saving_halved: replay.site(part.site, 0.5).share,
            saving_most: removed.most,
        })
    });
    Some(CriticalPath {
        trees,
        roots,
        whole,
        sites: sites.collect(),
    })
}
