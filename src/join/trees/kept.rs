//! Which trees are kept: for each site of roots some at random, and the slowest.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::raw::RawTree;
use crate::model::SiteId;

/// Trees at random. The standard error of a share that is one half in each is then 10 points at most.
pub(super) const SAMPLED: usize = 24;
/// The slowest ones.
pub(super) const SLOWEST: usize = 8;
/// The most memory for all trees. Beyond it the site that holds most gives one of its random ones up.
const MAX_BYTES: usize = 32 << 20;

/// Trees by the site of their root.
#[derive(Debug, Default)]
pub(super) struct Kept {
    sites: BTreeMap<SiteId, Group>,
    bytes: usize,
}

/// The trees of one site.
#[derive(Debug)]
pub(super) struct Group {
    seen: u64,
    sampled: Vec<Arc<RawTree>>,
    /// The slowest first.
    slowest: Vec<Arc<RawTree>>,
    /// How many trees at random there is memory for.
    most: usize,
    random: u64,
}

impl Group {
    fn new(site: SiteId) -> Group {
        Group {
            seen: 0,
            sampled: Vec::new(),
            slowest: Vec::new(),
            most: SAMPLED,
            // The same program with the same timing keeps the same trees.
            random: u64::from(site.0),
        }
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns each tree with whether it was drawn at random and whether it is among the slowest.
    pub(super) fn trees(&self) -> impl Iterator<Item = (&RawTree, bool, bool)> {
        let is_slow = |tree: &Arc<RawTree>| self.slowest.iter().any(|slow| Arc::ptr_eq(slow, tree));
        let is_sampled =
            |tree: &Arc<RawTree>| self.sampled.iter().any(|known| Arc::ptr_eq(known, tree));
        let sampled = self.sampled.iter();
        let sampled = sampled.map(move |tree| (tree.as_ref(), true, is_slow(tree)));
        let slow = self.slowest.iter().filter(move |tree| !is_sampled(tree));
        sampled.chain(slow.map(|tree| (tree.as_ref(), false, true)))
    }

    fn bytes(&self) -> usize {
        self.trees().map(|(tree, ..)| tree.bytes).sum()
    }

    /// Keeps a tree if chance or its length says so. Every tree seen so far has the same chance to be among those at
    /// random (Vitter's algorithm R).
    fn offer(&mut self, tree: RawTree) {
        self.seen += 1;
        let tree = Arc::new(tree);
        let at = self.slowest.partition_point(|slow| slow.wall >= tree.wall);
        if at < SLOWEST {
            self.slowest.insert(at, Arc::clone(&tree));
            self.slowest.truncate(SLOWEST);
        }
        if self.sampled.len() < self.most {
            self.sampled.push(tree);
        } else {
            let place = self.next_random() % self.seen;
            if let Some(old) = usize::try_from(place)
                .ok()
                .and_then(|at| self.sampled.get_mut(at))
            {
                *old = tree;
            }
        }
    }

    /// Steele's splitmix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Kept {
    pub(super) fn offer(&mut self, site: SiteId, tree: RawTree) {
        let group = self.sites.entry(site).or_insert_with(|| Group::new(site));
        let before = group.bytes();
        group.offer(tree);
        self.bytes = self.bytes - before + group.bytes();
        while self.bytes > MAX_BYTES && self.give_up() {}
    }

    /// Gives up one tree; returns whether there was one.
    fn give_up(&mut self) -> bool {
        let Some(group) = self.sites.values_mut().max_by_key(|group| group.bytes()) else {
            return false;
        };
        let before = group.bytes();
        if group.sampled.len() > 1 {
            group.sampled.pop();
            group.most = group.sampled.len();
        } else if group.slowest.len() > 1 {
            group.slowest.pop();
        } else {
            return false;
        }
        self.bytes = self.bytes - before + group.bytes();
        true
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = (SiteId, &Group)> {
        self.sites.iter().map(|(&site, group)| (site, group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Nanos;

    fn tree(wall: u64) -> RawTree {
        RawTree {
            spans: Vec::new(),
            truncated: false,
            wall: Nanos(wall),
            bytes: 1,
        }
    }

    #[test]
    fn the_slowest_are_kept_and_the_others_have_equal_chances() {
        let mut drawn_late = 0;
        for site in 0..200 {
            let mut kept = Kept::default();
            for wall in 0..1_000 {
                kept.offer(SiteId(site), tree(wall));
            }
            let group = &kept.sites[&SiteId(site)];
            let slow: Vec<_> = group.slowest.iter().map(|tree| tree.wall.0).collect();
            assert_eq!(slow, [999, 998, 997, 996, 995, 994, 993, 992]);
            assert_eq!((group.seen, group.sampled.len()), (1_000, SAMPLED));
            drawn_late += group
                .sampled
                .iter()
                .filter(|tree| tree.wall.0 >= 500)
                .count();
        }
        let share = drawn_late as f64 / (200 * SAMPLED) as f64;
        assert!(
            (share - 0.5).abs() < 0.03,
            "{share} of them from the later half"
        );
    }

    #[test]
    fn beyond_the_memory_the_site_with_most_gives_up() {
        let mut kept = Kept::default();
        kept.offer(SiteId(1), tree(5));
        for wall in 0..40 {
            let mut large = tree(wall);
            large.bytes = MAX_BYTES / 10;
            kept.offer(SiteId(2), large);
        }
        assert!(kept.bytes <= MAX_BYTES, "{}", kept.bytes);
        assert_eq!(
            kept.bytes,
            kept.sites.values().map(Group::bytes).sum::<usize>()
        );
        assert_eq!(kept.sites[&SiteId(1)].sampled.len(), 1);
        assert_eq!(kept.sites[&SiteId(2)].seen, 40);
    }
}
