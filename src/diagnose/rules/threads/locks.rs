//! Who waited for which lock, and what was done while it was held, out of the sampled trees.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::replay::Replayed;
use crate::diagnose::timeline::Timeline;
use crate::model::{Nanos, OperationTree, SiteId, TreeKind, TreeSpan};

/// A span that is at most so much shorter than the lock was held still covers that time: its end is noted after the
/// lock's.
const COVERS: f64 = 0.9;

/// One lock, in all sampled trees. Times and counts stand for all roots.
#[derive(Debug, Default)]
pub(super) struct Lock {
    pub(super) name: String,
    pub(super) acquisitions: f64,
    /// Those that waited.
    pub(super) contended: f64,
    /// In nanoseconds, without what was waiting for a core.
    pub(super) wait: f64,
    /// Of the acquisitions for which it is known how long the lock was held.
    pub(super) hold: f64,
    /// How long it was held each time, as seen.
    pub(super) holds: Vec<f64>,
    /// The part of `hold` that can be compared with `work`: where a span covers it.
    pub(super) covered: f64,
    /// Time within `covered` in other work: a query, a request, a file, an `.await`.
    pub(super) work: f64,
    /// The work by site; what is awaited without a span has no site.
    pub(super) work_of: BTreeMap<Option<SiteId>, f64>,
    /// Acquisitions as seen, and their threads.
    pub(super) seen: u64,
    pub(super) threads: BTreeSet<u32>,
    /// Tasks take turns on one thread.
    pub(super) by_tasks: bool,
    /// By whose fields say how long they waited.
    pub(super) users: BTreeMap<SiteId, User>,
    /// Whose own time the waiting is, for claims.
    pub(super) spent_in: BTreeMap<SiteId, f64>,
    pub(super) holders: BTreeMap<SiteId, f64>,
}

/// One site's acquisitions of a lock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct User {
    pub(super) acquisitions: f64,
    pub(super) contended: f64,
    pub(super) wait: f64,
    /// How long it held the lock, as far as that is known.
    pub(super) hold: f64,
}

/// One acquisition of a lock in one tree.
#[derive(Debug)]
struct Acquisition<'t> {
    name: &'t str,
    span: usize,
    /// The operation whose own time the wait is: the span itself, or what is around it if the wait was before.
    spent_in: usize,
    /// In nanoseconds, at most the own time of `spent_in`.
    wait: f64,
    /// The own time of `spent_in`.
    own: f64,
    hold: Option<f64>,
    /// The time in which the lock was held, where the span covers it.
    held: Option<(u64, u64)>,
}

/// Returns the part of the threads' time that is no waiting for a core. A wait for a lock ends with one, and how much
/// of it that was nobody noted: it is taken off in proportion.
fn with_core(evidence: &Evidence<'_>) -> f64 {
    let rows = evidence.profile.threads.iter();
    let (queued, busy) = rows
        .filter_map(|row| Some((row.run_queue?, row.busy)))
        .fold((0.0, 0.0), |(queued, busy), row| {
            (queued + row.0.0 as f64, busy + row.1.0 as f64)
        });
    if busy > 0.0 {
        1.0 - (queued / busy).min(1.0)
    } else {
        1.0
    }
}

/// Returns all locks, by name.
pub(super) fn locks(evidence: &Evidence<'_>) -> Vec<Lock> {
    let mut locks: BTreeMap<&str, Lock> = BTreeMap::new();
    let least = Nanos::from(evidence.thresholds.threads.lock_wait).0 as f64;
    let with_core = with_core(evidence);
    for weighted in evidence.trees() {
        let tree = weighted.tree;
        let acquisitions = acquisitions(tree);
        let work = work_inside(tree, &acquisitions);
        for (acquired, work) in acquisitions.iter().zip(work) {
            let span = &tree.spans[acquired.span];
            let lock = locks.entry(acquired.name).or_default();
            lock.seen += 1;
            lock.acquisitions += weighted.roots;
            lock.threads.insert(span.thread);
            lock.by_tasks |= span.kind == TreeKind::Async;
            let user = lock.users.entry(span.site.id).or_default();
            user.acquisitions += weighted.roots;
            user.hold += acquired.hold.unwrap_or(0.0) * weighted.roots;
            if acquired.wait >= least {
                lock.contended += weighted.roots;
                let wait = acquired.wait * with_core * weighted.roots;
                lock.wait += wait;
                user.contended += weighted.roots;
                user.wait += wait;
                let spent_in = &tree.spans[acquired.spent_in];
                if spent_in.kind != TreeKind::Async {
                    *lock.spent_in.entry(spent_in.site.id).or_default() += wait;
                }
            }
            if let Some(hold) = acquired.hold {
                lock.hold += hold * weighted.roots;
                lock.holds.push(hold);
                let holder = match acquired.held {
                    Some(_) => Some(acquired.span),
                    None => parent(span, acquired.span),
                };
                let holder = &tree.spans[holder.unwrap_or(acquired.span)];
                *lock.holders.entry(holder.site.id).or_default() += hold * weighted.roots;
            }
            if let Some((from, to)) = acquired.held {
                lock.covered += (to - from) as f64 * weighted.roots;
                for (site, time) in work {
                    lock.work += time as f64 * weighted.roots;
                    *lock.work_of.entry(site).or_default() += time as f64 * weighted.roots;
                }
            }
        }
    }
    let named = locks.into_iter().map(|(name, lock)| Lock {
        name: name.to_owned(),
        ..lock
    });
    named.collect()
}

impl Lock {
    /// Returns what would vanish if this part of the waiting for the lock did.
    pub(super) fn replayed(&self, evidence: &Evidence<'_>, part: f64) -> Option<Replayed> {
        let part = part.clamp(0.0, 1.0) * with_core(evidence);
        let least = Nanos::from(evidence.thresholds.threads.lock_wait).0 as f64;
        evidence.changed(201, |tree, scales| {
            let acquisitions = acquisitions(tree);
            let of_lock = acquisitions.iter().filter(|one| one.name == self.name);
            for acquired in of_lock.filter(|one| one.wait >= least && one.own > 0.0) {
                let scale = &mut scales[acquired.spent_in];
                *scale = (*scale - part * acquired.wait / acquired.own).max(0.0);
            }
        })
    }

    /// Returns the part of the time that the lock is held which is work that needs no lock.
    pub(super) fn work_share(&self) -> f64 {
        part(self.work, self.covered)
    }

    pub(super) fn contended_share(&self) -> f64 {
        part(self.contended, self.acquisitions)
    }

    /// Returns the site that waits longest.
    pub(super) fn longest_waiting(&self) -> Option<(SiteId, User)> {
        let users = self.users.iter().map(|(&site, &user)| (site, user));
        users
            .max_by(|(_, one), (_, other)| one.wait.total_cmp(&other.wait))
            .filter(|(_, user)| user.wait > 0.0)
    }
}

impl User {
    pub(super) fn contended_share(self) -> f64 {
        part(self.contended, self.acquisitions)
    }
}

fn part(part: f64, of: f64) -> f64 {
    if of > 0.0 { (part / of).min(1.0) } else { 0.0 }
}

/// Returns the site with the most, and its part.
pub(super) fn most<K: Copy>(times: &BTreeMap<K, f64>) -> Option<(K, f64)> {
    let all: f64 = times.values().sum();
    let (&key, &time) = times
        .iter()
        .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    (time > 0.0).then(|| (key, time / all))
}

fn acquisitions(tree: &OperationTree) -> Vec<Acquisition<'_>> {
    let spans = &tree.spans;
    if !spans.iter().any(is_of_lock) {
        return Vec::new();
    }
    let timeline = Timeline::of(tree);
    let own_of = |index: usize| {
        let mut own = 0;
        timeline.own_intervals(index, |from, to| own += to.saturating_sub(from));
        own as f64
    };
    let mut has_child = vec![false; spans.len()];
    for (index, span) in spans.iter().enumerate() {
        if let Some(parent) = parent(span, index) {
            has_child[parent] = true;
        }
    }
    let of_lock = spans
        .iter()
        .enumerate()
        .filter(|(_, span)| is_of_lock(span));
    of_lock
        .map(|(index, span)| {
            let length = span.length().0 as f64;
            let said_wait = nanos(span, "lock.wait_ns");
            let said_hold = nanos(span, "lock.hold_ns");
            let covers = said_hold.is_some_and(|hold| hold > 0.0 && length >= hold * COVERS);
            // A span that waits and then holds ends when it lets go; one that only holds waited before.
            let both = said_wait.unwrap_or(0.0) + said_hold.unwrap_or(0.0);
            let before = said_wait.is_some() && both * COVERS > length;
            let spent_in = match parent(span, index) {
                Some(around) if before => around,
                _ => index,
            };
            let own = own_of(spent_in);
            // A span without figures that has others inside holds the lock meanwhile; how long it waited is not known.
            let holds_unsaid = said_hold.is_none() && has_child[index];
            let wait = match said_wait {
                Some(wait) => wait,
                None if holds_unsaid || said_hold.is_some() => 0.0,
                None => own,
            };
            let held = if covers {
                let hold = said_hold.unwrap_or(0.0).min(length) as u64;
                Some((span.end.0 - hold, span.end.0))
            } else if holds_unsaid {
                let waited = if before { 0.0 } else { wait.min(length) };
                Some((span.start.0 + waited as u64, span.end.0))
            } else {
                None
            };
            let hold = said_hold.or(held.map(|(from, to)| (to - from) as f64));
            Acquisition {
                name: fields::text(span, "lock.name").unwrap_or(span.site.name),
                span: index,
                spent_in,
                wait: wait.min(own),
                own,
                hold,
                held,
            }
        })
        .collect()
}

fn is_of_lock(span: &TreeSpan) -> bool {
    let mut fields = span.fields.iter();
    fields.any(|field| field.name.starts_with("lock.") || field.name == "cortex.kind")
        && (fields::kind(span) == Some(Kind::Lock) || fields::has_prefix(span, "lock."))
}

/// Eleven days; a field that says more says something else.
const LONGEST: f64 = 1e15;

/// Returns a length of time that a field gives in nanoseconds.
pub(super) fn nanos(span: &TreeSpan, name: &str) -> Option<f64> {
    fields::amount(span, name).filter(|&length| length <= LONGEST)
}

/// Returns an index before the own one; anything else would be a loop.
fn parent(span: &TreeSpan, index: usize) -> Option<usize> {
    span.parent
        .map(|parent| parent as usize)
        .filter(|&parent| parent < index)
}

/// Returns for each acquisition the work that was done while the lock was held and needs none, by site.
fn work_inside(
    tree: &OperationTree,
    acquisitions: &[Acquisition<'_>],
) -> Vec<Vec<(Option<SiteId>, u64)>> {
    let mut holder_at: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, acquired) in acquisitions.iter().enumerate() {
        if acquired.held.is_some() {
            holder_at.insert(acquired.span, at);
        }
    }
    let mut work: Vec<Vec<(u64, u64, Option<SiteId>)>> = vec![Vec::new(); acquisitions.len()];
    if holder_at.is_empty() {
        return vec![Vec::new(); acquisitions.len()];
    }
    for (index, span) in tree.spans.iter().enumerate() {
        let works = needs_no_lock(span);
        let own = holder_at.get(&index);
        if !works && own.is_none() && span.activations.is_empty() {
            continue;
        }
        let mut at = Some(index);
        while let Some(around) = at {
            if let Some(&holder) = holder_at.get(&around) {
                if works && around != index {
                    work[holder].push((span.start.0, span.end.0, Some(span.site.id)));
                }
                for between in span.activations.windows(2) {
                    work[holder].push((between[0].end.0, between[1].begin.0, None));
                }
            }
            at = parent(&tree.spans[around], around);
        }
    }
    let parts = work.into_iter().zip(acquisitions);
    parts
        .map(|(work, acquired)| match acquired.held {
            Some(held) => within(work, held),
            None => Vec::new(),
        })
        .collect()
}

fn needs_no_lock(span: &TreeSpan) -> bool {
    matches!(
        fields::kind(span),
        Some(Kind::Database | Kind::Http | Kind::Rpc | Kind::File | Kind::Sync)
    )
}

/// Returns the intervals' time within `held`, each moment once; named work comes first.
fn within(
    mut work: Vec<(u64, u64, Option<SiteId>)>,
    (from, to): (u64, u64),
) -> Vec<(Option<SiteId>, u64)> {
    // Between two polls a task waits for what is named, if anything is.
    let named: Vec<(u64, u64)> = work
        .iter()
        .filter(|(.., site)| site.is_some())
        .map(|&(from, to, _)| (from, to))
        .collect();
    work.retain(|&(start, end, site)| {
        site.is_some() || !named.iter().any(|&(from, to)| from < end && start < to)
    });
    work.sort_unstable();
    let mut reached = from;
    let mut times = Vec::new();
    for (start, end, site) in work {
        let (start, end) = (start.max(reached), end.min(to));
        if end > start {
            times.push((site, end - start));
            reached = end;
        }
    }
    times
}
