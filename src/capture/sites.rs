//! Numbers for callsites and call paths, the same on all threads of a capture.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tracing_core::Metadata;

use super::{Limits, gpu_reports, lock};
use crate::model::{PathId, PathTable, Site, SiteId, is_semantic};

/// The capture's callsites and call paths. Asked when a thread meets a site or a path for the first time.
pub(super) struct Registry {
    pub(super) limits: Limits,
    sites: Mutex<Sites>,
    paths: Mutex<Paths>,
    held: Option<Box<HeldFn>>,
    /// Whether an output asked for the fields of spans.
    keep_fields: bool,
    /// Whether trees are sampled, which keep what rules look at.
    trees: bool,
}

/// The user's word on which callsites create held spans.
pub(crate) type HeldFn = dyn Fn(&Metadata<'static>) -> bool + Send + Sync;

#[derive(Default)]
struct Sites {
    by_metadata: HashMap<usize, Arc<SiteState>>,
    by_id: HashMap<SiteId, Arc<SiteState>>,
    all: Vec<Arc<Site>>,
}

#[derive(Default)]
struct Paths {
    table: PathTable,
    by_step: HashMap<(PathId, SiteId), PathId>,
}

/// A callsite and what the capture has learned about it.
#[derive(Debug)]
pub(super) struct SiteState {
    pub(super) id: SiteId,
    flags: AtomicU32,
    /// Plain spans in a row, until they are enough.
    plain: AtomicU32,
}

/// The span's fields are to be recorded.
pub(super) const KEEP_FIELDS: u32 = 1;
/// `builder.held` said so: every activation is an operation.
pub(super) const HELD: u32 = 1 << 1;
/// A span of this site was entered several times without being held.
pub(super) const ASYNC: u32 = 1 << 2;
/// All spans of this site so far were entered once, where they were created. Nobody asks when such a span was created,
/// so the clock, which is the dearest part of creating it, is not read.
pub(super) const PLAIN: u32 = 1 << 3;

/// One of the span's fields means something: an error, or that there was none.
pub(super) const SEMANTIC_FIELDS: u32 = 1 << 4;
/// The span's fields are to be recorded if it is in a sampled tree.
pub(super) const TREE_FIELDS: u32 = 1 << 5;

/// Plain spans that make a site plain. A callsite makes either futures or scopes, so that few would do.
const ENOUGH_PLAIN: u32 = 32;

impl SiteState {
    pub(super) fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// Remembers that a span turned out to be something else than plain.
    fn learn(&self, flag: u32) {
        self.flags.fetch_or(flag, Relaxed);
        self.flags.fetch_and(!PLAIN, Relaxed);
        // Never again, or a site of both kinds would go back and forth.
        self.plain.store(ENOUGH_PLAIN, Relaxed);
    }

    fn count_plain(&self) {
        if self.plain.load(Relaxed) < ENOUGH_PLAIN
            && self.plain.fetch_add(1, Relaxed) + 1 == ENOUGH_PLAIN
        {
            self.flags.fetch_or(PLAIN, Relaxed);
        }
    }
}

/// Fields of spans with one of these are kept whatever the outputs asked for, because rules and counts need them.
const SEMANTIC: [&str; 3] = ["error", "otel.status_code", gpu_reports::TIME];

impl Registry {
    pub(super) fn new(
        limits: Limits,
        keep_fields: bool,
        trees: bool,
        held: Option<Box<HeldFn>>,
    ) -> Registry {
        let root = (PathId::ROOT, SiteId::OTHER);
        Registry {
            limits,
            sites: Mutex::new(Sites {
                by_metadata: HashMap::new(),
                by_id: HashMap::new(),
                all: vec![Arc::new(Site::other())],
            }),
            paths: Mutex::new(Paths {
                table: PathTable { nodes: vec![root] },
                by_step: HashMap::new(),
            }),
            held,
            keep_fields,
            trees,
        }
    }

    /// Returns the site of a callsite, which is told apart by its address.
    pub(super) fn site(&self, metadata: &'static Metadata<'static>) -> Arc<SiteState> {
        let address = std::ptr::from_ref(metadata).addr();
        if let Some(known) = lock(&self.sites).by_metadata.get(&address) {
            return Arc::clone(known);
        }
        // The user's function runs without our lock.
        let held = metadata.is_span()
            && self.held.as_ref().is_some_and(|held| {
                catch_unwind(AssertUnwindSafe(|| held(metadata))).unwrap_or(false)
            });
        let semantic = SEMANTIC
            .iter()
            .any(|name| metadata.fields().field(name).is_some());
        let keep = !metadata.fields().is_empty() && (self.keep_fields || semantic);
        let of_tree = self.trees
            && metadata
                .fields()
                .iter()
                .any(|field| is_semantic(field.name()));
        let flags = (u32::from(keep) * KEEP_FIELDS)
            | (u32::from(semantic) * SEMANTIC_FIELDS)
            | (u32::from(held) * HELD)
            | (u32::from(of_tree) * TREE_FIELDS);

        let mut sites = lock(&self.sites);
        let id = SiteId(u32::try_from(sites.all.len()).unwrap_or(u32::MAX));
        if let Some(known) = sites.by_metadata.get(&address) {
            return Arc::clone(known);
        }
        let site = Site::new(
            id,
            metadata.name(),
            metadata.target(),
            metadata.file(),
            metadata.line(),
        );
        let site = Arc::new(site.with_fields(metadata.fields().iter().map(|field| field.name())));
        sites.all.push(Arc::clone(&site));
        let state = Arc::new(SiteState {
            id,
            flags: AtomicU32::new(flags),
            plain: AtomicU32::new(0),
        });
        sites.by_id.insert(id, Arc::clone(&state));
        sites.by_metadata.insert(address, Arc::clone(&state));
        state
    }

    /// Remembers that spans of a site are not plain, and what they are instead.
    pub(super) fn learn(&self, site: SiteId, flag: u32) {
        if let Some(state) = lock(&self.sites).by_id.get(&site) {
            state.learn(flag);
        }
    }

    /// Counts a plain span of a site that is not known to be plain.
    pub(super) fn count_plain(&self, site: SiteId) {
        if let Some(state) = lock(&self.sites).by_id.get(&site) {
            state.count_plain();
        }
    }

    /// Returns all sites, indexed by [`SiteId`].
    pub(super) fn sites(&self) -> Vec<Arc<Site>> {
        lock(&self.sites).all.clone()
    }

    /// Appends the sites that `known` does not hold yet.
    pub(super) fn extend_sites(&self, known: &mut Vec<Arc<Site>>) {
        let sites = lock(&self.sites);
        known.extend(sites.all.iter().skip(known.len()).cloned());
    }

    /// Returns the path one step further, or `None` at the limit of nodes.
    pub(super) fn path(&self, parent: PathId, site: SiteId) -> Option<PathId> {
        let mut paths = lock(&self.paths);
        if let Some(&known) = paths.by_step.get(&(parent, site)) {
            return Some(known);
        }
        (paths.table.nodes.len() <= self.limits.max_tree_nodes).then(|| paths.add(parent, site))
    }

    /// Returns the path `(other)` under a parent, which is there beyond the limit too.
    pub(super) fn other_path(&self, parent: PathId) -> PathId {
        let mut paths = lock(&self.paths);
        match paths.by_step.get(&(parent, SiteId::OTHER)) {
            Some(&known) => known,
            None => paths.add(parent, SiteId::OTHER),
        }
    }

    /// Returns the nodes from the root to a path.
    pub(super) fn steps(&self, path: PathId) -> Vec<(PathId, SiteId)> {
        let paths = lock(&self.paths);
        let mut steps = Vec::new();
        let mut at = path;
        while at != PathId::ROOT {
            let Some(&(parent, site)) = paths.table.nodes.get(at.0 as usize) else {
                break;
            };
            steps.push((at, site));
            at = parent;
        }
        steps.reverse();
        steps
    }

    pub(super) fn path_table(&self) -> PathTable {
        lock(&self.paths).table.clone()
    }
}

impl Paths {
    fn add(&mut self, parent: PathId, site: SiteId) -> PathId {
        let path = PathId(u32::try_from(self.table.nodes.len()).unwrap_or(u32::MAX));
        self.table.nodes.push((parent, site));
        self.by_step.insert((parent, site), path);
        path
    }
}
