//! Device times that the program has said itself. Nobody knows when they were, so they are sums and nothing else.

use std::collections::{BTreeSet, HashMap};

use super::super::tree::Built;
use crate::model::{GpuDeviceStats, GpuProfile, GpuReported, GpuSource, GpuStats, GpuTotals};
use crate::model::{PathId, PathTable};

/// Adds them to the rows of the spans that said them, and of those around these.
pub(in super::super) fn fill_in(built: &mut Built, reported: &[GpuReported], table: &PathTable) {
    let rows_of_paths: HashMap<_, _> = (0..)
        .zip(&built.path_ids)
        .map(|(row, id)| (*id, row))
        .collect();
    let sites = built.sites.iter().map(|row| row.site.id);
    let rows_of_sites: HashMap<_, _> = sites.zip(0_usize..).collect();
    for said in reported {
        let mut seen = BTreeSet::new();
        let mut at = said.path;
        while at != PathId::ROOT {
            let Some(&(parent, site)) = table.nodes.get(at.0 as usize) else {
                break;
            };
            let is_own = at == said.path;
            let row = rows_of_paths.get(&at).copied();
            if let Some(row) = row.and_then(|row: usize| built.paths.get_mut(row)) {
                add_to(&mut row.stats.gpu, said, is_own, true);
            }
            // A site that is on the path twice has the time once.
            let is_first = seen.insert(site);
            let row = rows_of_sites.get(&site).copied();
            if let Some(row) = row.and_then(|row| built.sites.get_mut(row)) {
                add_to(&mut row.stats.gpu, said, is_own, is_first);
            }
            at = parent;
        }
    }
}

/// Adds them to the rows of their devices, as far as those were said.
pub(in super::super) fn add_to_devices(profile: &mut GpuProfile, reported: &[GpuReported]) {
    for said in reported {
        let Some(ordinal) = said.device else { continue };
        let rows = &mut profile.devices;
        let at = match rows.binary_search_by_key(&ordinal, |row| row.device.ordinal) {
            Ok(at) => at,
            Err(at) => {
                let mut new = GpuDeviceStats::default();
                new.device.ordinal = ordinal;
                rows.insert(at, new);
                at
            }
        };
        if let Some(row) = rows.get_mut(at) {
            add(&mut row.totals, said);
        }
    }
}

fn add_to(stats: &mut Option<Box<GpuStats>>, said: &GpuReported, own: bool, total: bool) {
    let stats = stats.get_or_insert_default();
    if own {
        add(&mut stats.own, said);
    }
    if total {
        add(&mut stats.total, said);
    }
}

fn add(totals: &mut GpuTotals, said: &GpuReported) {
    totals.ranges += said.reports;
    totals.range_time = totals.range_time.saturating_add(said.time);
    if let Err(at) = totals.sources.binary_search(&GpuSource::Reported) {
        totals.sources.insert(at, GpuSource::Reported);
    }
}
