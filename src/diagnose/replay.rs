//! What would happen to the whole if a site took less time: the sampled trees replayed, and weighed by the roots that
//! they stand for.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::diagnose::critical_path;
use crate::diagnose::timeline::Timeline;
use crate::model::{Nanos, OperationTree, Profile, SiteId};

/// Resamplings for an interval of confidence.
const RESAMPLINGS: usize = 1000;
/// From this many trees on fewer resamplings will do, because their mean hardly varies.
const MANY_TREES: usize = 2000;

/// From this share of all root time on, what the trees say holds for the whole.
const ENOUGH_COVERED: f64 = 0.8;

/// The sampled trees, ready to be replayed.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    groups: Vec<Group<'a>>,
    /// What savings are a share of: the wall time, or the time of all roots if that is more because they overlap.
    whole: f64,
    /// Root operations in all.
    roots: u64,
    covered: f64,
    /// What was asked before; rules ask for the same.
    known: RefCell<BTreeMap<(SiteId, u64), Replayed>>,
}

/// The trees of the roots of one site.
#[derive(Debug)]
struct Group<'a> {
    /// How long all roots of the site took.
    wall: f64,
    /// How many they were.
    roots: u64,
    trees: Vec<Laid<'a>>,
    /// How long the roots of all sampled trees took, those included that cannot be replayed.
    sampled: f64,
    /// For how many roots each sampled tree stands.
    each: f64,
}

/// A tree that can be replayed.
#[derive(Debug)]
struct Laid<'a> {
    tree: &'a OperationTree,
    timeline: Timeline,
    /// How long its root was open, which is what the group's `wall` adds up.
    open: f64,
}

/// A sampled tree and how many roots it stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighted<'a> {
    pub(crate) tree: &'a OperationTree,
    /// Where times are added up: with this all trees take as long as all roots did.
    pub(crate) roots: f64,
    /// Where anything is counted: with this there are as many trees as there were roots. It differs from `roots` where
    /// the sample happens to have shorter or longer roots than most.
    pub(crate) number: f64,
}

/// What a replay says about one change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Replayed {
    /// The share of the whole that would vanish: the estimate, and the bounds of its 95 % interval.
    pub(crate) share: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// No more than this share can vanish: when the site's own code or wait was active, in each root. Where trees are a
    /// sample of the roots that is the upper end of its 95 % interval.
    pub(crate) most: f64,
    /// How many operations it changes, in all roots.
    pub(crate) operations: f64,
    /// Whether it changes anything in any tree.
    pub(crate) applies: bool,
    /// In how many of the trees it saves anything.
    pub(crate) trees: u64,
}

/// A site's part of the critical path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct OnPath {
    pub(crate) site: SiteId,
    /// As a share of the whole.
    pub(crate) share: f64,
}

impl<'a> Replay<'a> {
    /// Lays the trees out; `None` if there are none, or if they stand for too little of the time.
    pub(crate) fn of(profile: &'a Profile, roots_wall: Nanos) -> Option<Replay<'a>> {
        let mut groups = Vec::new();
        let (mut roots, mut covered) = (0_u64, 0.0);
        for group in &profile.trees {
            let sampled = group.kept.iter().filter(|kept| kept.sampled);
            let sampled_wall: u64 = sampled.clone().map(|kept| kept.open.0).sum();
            let sampled_trees = sampled.clone().count();
            let usable = sampled.filter(|kept| !kept.tree.truncated && !kept.tree.spans.is_empty());
            let usable_wall: u64 = usable.clone().map(|kept| kept.open.0).sum();
            let trees: Vec<Laid<'a>> = usable
                .map(|kept| Laid {
                    tree: &kept.tree,
                    timeline: Timeline::of(&kept.tree),
                    open: kept.open.0 as f64,
                })
                .collect();
            roots = roots.saturating_add(group.roots);
            if usable_wall > 0 {
                let wall = group.wall.0 as f64;
                covered += wall * usable_wall as f64 / sampled_wall.max(1) as f64;
                groups.push(Group {
                    wall,
                    roots: group.roots,
                    trees,
                    sampled: sampled_wall.max(1) as f64,
                    each: group.roots as f64 / sampled_trees.max(1) as f64,
                });
            }
        }
        let whole = profile.wall.max(roots_wall).0 as f64;
        let covered = covered / (roots_wall.0 as f64).max(1.0);
        (!groups.is_empty() && covered >= ENOUGH_COVERED && whole > 0.0).then(|| Replay {
            groups,
            whole,
            roots,
            covered: covered.min(1.0),
            known: RefCell::default(),
        })
    }

    /// Returns how many trees there are, and for how many roots they stand.
    pub(crate) fn trees_and_roots(&self) -> (u64, u64) {
        let trees = self.groups.iter().map(|group| group.trees.len() as u64);
        (trees.sum(), self.roots)
    }

    /// Returns the sampled trees, each with how many roots it stands for.
    pub(crate) fn trees(&self) -> impl Iterator<Item = Weighted<'a>> {
        self.groups.iter().flat_map(|group| {
            group.trees.iter().map(|laid| Weighted {
                tree: laid.tree,
                roots: group.wall / group.sampled,
                number: group.each,
            })
        })
    }

    /// Returns what shares are of.
    pub(crate) fn whole(&self) -> Nanos {
        Nanos(self.whole as u64)
    }

    /// Returns what would vanish if the own time of all operations of a site were multiplied by `scale`.
    pub(crate) fn site(&self, site: SiteId, scale: f64) -> Replayed {
        let key = (site, scale.to_bits());
        if let Some(&known) = self.known.borrow().get(&key) {
            return known;
        }
        let scale = scale.clamp(0.0, 1.0);
        // Out of the timeline, where the sites lie side by side: most trees do not have this one.
        let replayed = self.replay(u64::from(site.0), |laid, scales| {
            let nodes = laid.timeline.nodes.iter();
            let mut of_site = nodes.enumerate().filter(|(_, node)| node.site == site);
            let Some((first, _)) = of_site.next() else {
                return false;
            };
            scales.resize(laid.tree.spans.len(), 1.0);
            scales[first] = scale;
            of_site.for_each(|(index, _)| scales[index] = scale);
            true
        });
        self.known.borrow_mut().insert(key, replayed);
        replayed
    }

    /// Returns what would vanish if the own time of each operation were multiplied by what `change` puts into the slice,
    /// which has a place for each operation of the tree and comes filled with 1.
    ///
    /// `most` is about the operations that are changed at all. `seed` draws the resamplings.
    pub(crate) fn change(
        &self,
        seed: u64,
        change: impl Fn(&OperationTree, &mut [f64]),
    ) -> Replayed {
        self.replay(seed, |laid, scales| {
            scales.resize(laid.tree.spans.len(), 1.0);
            change(laid.tree, scales);
            true
        })
    }

    /// `change` gets an empty list to fill with a place for each operation; it returns whether it did.
    fn replay(&self, seed: u64, change: impl Fn(&Laid<'_>, &mut Vec<f64>) -> bool) -> Replayed {
        let mut scales = Vec::new();
        let mut lengths = Vec::new();
        let mut intervals = Vec::new();
        let (mut share, mut most, mut operations, mut trees) = (0.0, 0.0, 0.0, 0);
        let mut applies = false;
        let mut active_sampled = 0.0;
        let (mut strata, mut active_strata) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let mut saved_of_group = Vec::with_capacity(group.trees.len());
            let mut active_of_group = Vec::with_capacity(group.trees.len());
            let (mut saved_sum, mut active_sum) = (0.0, 0.0);
            for laid in &group.trees {
                let timeline = &laid.timeline;
                let (mut saved, mut active) = (0.0, 0.0);
                scales.clear();
                let laid_out = change(laid, &mut scales);
                let changed = scales.iter().filter(|&&scale| scale < 1.0).count();
                if laid_out && changed > 0 {
                    applies = true;
                    operations += changed as f64 * group.wall / group.sampled;
                    let length = timeline.replay(|index| scales[index], &mut lengths);
                    saved = (timeline.wall() as f64 - length).max(0.0);
                    active = union(timeline, &scales, &mut intervals) as f64;
                }
                trees += u64::from(saved > 0.0);
                saved_sum += saved;
                active_sum += active;
                saved_of_group.push((saved, laid.open));
                active_of_group.push((active, laid.open));
            }
            let weight = group.wall / group.sampled / self.whole;
            share += saved_sum * weight;
            most += active_sum * weight;
            // Truncated trees are no part of the resampling: they save nothing, which is certain.
            let usable: f64 = saved_of_group.iter().map(|(_, wall)| wall).sum();
            let of_usable = group.wall * usable / group.sampled / self.whole;
            if saved_sum > 0.0 {
                strata.push((of_usable, saved_of_group));
            }
            // What all roots say is no sample.
            if active_sum > 0.0 && (group.trees.len() as u64) < group.roots {
                active_sampled += active_sum * weight;
                active_strata.push((of_usable, active_of_group));
            }
        }
        let (low, high) = interval(&strata, share, seed);
        let (_, active_high) = interval(&active_strata, active_sampled, seed);
        most += (active_high - active_sampled).max(0.0);
        // What is not in the trees can be anything.
        let most = (most + (1.0 - self.covered)).min(1.0);
        Replayed {
            share,
            low: low.min(share),
            high: high.max(share),
            most: most.max(share),
            operations,
            applies,
            trees,
        }
    }

    /// Returns each site's part of the critical path, the largest first.
    pub(crate) fn critical_path(&self) -> Vec<OnPath> {
        let mut shares: BTreeMap<SiteId, f64> = BTreeMap::new();
        for group in &self.groups {
            let mut times: BTreeMap<SiteId, u64> = BTreeMap::new();
            for Laid { timeline, .. } in &group.trees {
                critical_path::visit(timeline, |index, from, to| {
                    *times.entry(timeline.nodes[index].site).or_default() += to - from;
                });
            }
            for (site, time) in times {
                *shares.entry(site).or_default() +=
                    time as f64 * group.wall / group.sampled / self.whole;
            }
        }
        let mut path: Vec<OnPath> = shares
            .into_iter()
            .map(|(site, share)| OnPath { site, share })
            .collect();
        path.sort_by(|one, other| {
            other
                .share
                .total_cmp(&one.share)
                .then(one.site.cmp(&other.site))
        });
        path
    }
}

/// Returns for how long the own code or wait of the operations that change was active in a root: the union, because they
/// may overlap.
fn union(tree: &Timeline, scales: &[f64], intervals: &mut Vec<(u64, u64)>) -> u64 {
    intervals.clear();
    for (index, &scale) in scales.iter().enumerate() {
        if scale < 1.0 {
            tree.own_intervals(index, |from, to| intervals.push((from, to)));
        }
    }
    intervals.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for &(from, to) in &*intervals {
        sum += to.saturating_sub(from.max(reached));
        reached = reached.max(to);
    }
    sum
}

/// Returns the 95 % interval of a share by resampling the trees of each group (Efron's percentile bootstrap); the same
/// numbers give the same interval.
fn interval(strata: &[(f64, Vec<(f64, f64)>)], share: f64, seed: u64) -> (f64, f64) {
    let trees: usize = strata.iter().map(|(_, trees)| trees.len()).sum();
    if strata.iter().all(|(_, trees)| trees.len() < 2) {
        return (share, share);
    }
    let rounds = match trees > MANY_TREES {
        true => RESAMPLINGS / 5,
        false => RESAMPLINGS,
    };
    let mut random = Random(seed);
    let mut shares: Vec<f64> = (0..rounds)
        .map(|_| {
            let of_stratum = |(weight, trees): &(f64, Vec<(f64, f64)>)| {
                let (mut saved, mut wall) = (0.0, 0.0);
                for _ in 0..trees.len() {
                    let drawn = trees[random.below(trees.len())];
                    saved += drawn.0;
                    wall += drawn.1;
                }
                if wall > 0.0 {
                    weight * saved / wall
                } else {
                    0.0
                }
            };
            strata.iter().map(of_stratum).sum()
        })
        .collect();
    shares.sort_unstable_by(f64::total_cmp);
    let at = |quantile: f64| shares[((rounds - 1) as f64 * quantile).round() as usize];
    (at(0.025), at(0.975))
}

/// Steele's splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // The upper half of a product spreads evenly without a division.
        ((u128::from(z) * limit as u128) >> 64) as usize
    }
}
