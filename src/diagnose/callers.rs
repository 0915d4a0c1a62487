//! Where a site's own time is called from.

use std::collections::BTreeMap;

use crate::diagnose::evidence::Evidence;
use crate::diagnose::wording;
use crate::model::{Nanos, SiteId, SiteStats};

/// From this part of the site's self time on, one caller is worth a word.
const MOST: f64 = 0.8;

/// From this part on it is all that matters.
const NEARLY_ALL: f64 = 0.95;

/// Chains up to this long are written out; of longer ones the end is, which is nearest to the site.
const LONGEST: usize = 4;
const KEPT: usize = 3;

/// The one call path that holds most of a site's self time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Caller {
    /// The names from the root to the caller.
    chain: Vec<&'static str>,
    share: f64,
}

impl Caller {
    /// Returns it; `None` if there are several that matter, or if the time is in roots.
    ///
    /// `claimed` is self time that another rule explains. Nobody knows which callers it came from, so all of it is taken
    /// off this one: the share of the rest is never too large.
    pub(crate) fn of(evidence: &Evidence<'_>, row: &SiteStats, claimed: Nanos) -> Option<Caller> {
        let id = row.site.id;
        let mut by_caller: BTreeMap<Option<usize>, Nanos> = BTreeMap::new();
        for (index, path) in evidence.profile.paths.iter().enumerate() {
            if path.site.id == id {
                // Who calls itself was called by whoever is around all that.
                let caller =
                    std::iter::successors(evidence.parent(index), |&at| evidence.parent(at))
                        .find(|&at| evidence.path(at).site.id != id);
                let time = by_caller.entry(caller).or_default();
                *time = time.saturating_add(path.stats.self_time);
            }
        }
        let (caller, time) = by_caller.into_iter().max_by_key(|&(_, time)| time)?;
        let caller = caller.filter(|&at| evidence.path(at).site.id != SiteId::OTHER)?;
        let own = row.stats.self_time.saturating_sub(claimed);
        let share = time.saturating_sub(claimed).share_of(own).min(1.0);
        (share >= MOST).then(|| Caller {
            chain: evidence.profile.names(caller),
            share,
        })
    }

    /// Continues a message that has named the time.
    pub(crate) fn clause(&self) -> String {
        let chain = match self.chain.len().checked_sub(KEPT) {
            Some(skipped) if self.chain.len() > LONGEST => {
                format!("... > {}", self.chain[skipped..].join(" > "))
            }
            _ => self.chain.join(" > "),
        };
        format!("; {} of it under `{chain}`", wording::percent(self.share))
    }

    /// Continues a headline that has named the time.
    pub(crate) fn lead(&self) -> String {
        let part = if self.share >= NEARLY_ALL {
            "nearly all"
        } else {
            "most"
        };
        let name = self.chain.last().copied().unwrap_or_default();
        format!(", {part} of it called from `{name}`")
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::Thresholds;
    use crate::diagnose::planted::{MS, Planted, own, plain};
    use crate::model::PathStats;

    use super::*;

    #[test]
    fn claimed_time_is_taken_off_the_caller() {
        let mut planted = Planted::run(1_000)
            .site("search", None, own(plain(&[(600 * MS, 1)]), 0))
            .site("tokenise", None, plain(&[(600 * MS, 1)]));
        planted.profile.paths[1].stats.self_time = Nanos(60 * MS);
        let below = plain(&[(540 * MS, 1)]);
        let site = planted.profile.sites[1].site.clone();
        let path = PathStats::new(Some(0), 1, site, below);
        planted.profile.paths.push(path);

        let thresholds = Thresholds::default();
        let evidence = Evidence::new(&planted.profile, &thresholds);
        let row = &planted.profile.sites[1];
        let clause =
            |claimed| Caller::of(&evidence, row, Nanos(claimed * MS)).map(|caller| caller.clause());
        assert_eq!(clause(0).as_deref(), Some("; 90 % of it under `search`"));
        assert_eq!(clause(200).as_deref(), Some("; 85 % of it under `search`"));
        assert_eq!(
            clause(310),
            None,
            "of 290 ms the root may have had 60, more than a fifth"
        );
    }
}
