//! Planted requests: roots with calls to databases, files and other programs.

use std::sync::Arc;

use crate::diagnose::planted::{MS, Planted, plain, sampled};
use crate::model::{
    KeptTree, Nanos, OperationTree, RootTrees, Site, SiteId, TreeField, TreeKind, TreeSpan,
    TreeValue,
};

pub(super) const US: u64 = 1_000;

pub(super) type Field = (&'static str, TreeValue);

pub(super) fn said(name: &'static str, text: &str) -> Field {
    (name, TreeValue::Text(text.into()))
}

pub(super) fn number(name: &'static str, value: i64) -> Field {
    (name, TreeValue::Integer(value))
}

pub(super) fn query(text: &str) -> Field {
    said("db.query.text", text)
}

/// One root in the making; times in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Request {
    tree: OperationTree,
}

impl Request {
    pub(super) fn new(us: u64) -> Request {
        Request {
            tree: OperationTree::new(vec![TreeSpan {
                kind: TreeKind::Async,
                ..span(1, "root", None, 0, us)
            }]),
        }
    }

    /// Adds an operation; its site has the number `site`, above 1.
    pub(super) fn with(
        mut self,
        (site, name): (u32, &'static str),
        parent: u32,
        (from, to): (u64, u64),
        fields: &[Field],
    ) -> Request {
        let mut one = span(site, name, Some(parent), from, to);
        one.kind = TreeKind::Async;
        one.busy = Nanos::ZERO;
        let fields = fields.iter().cloned();
        one.fields = fields
            .map(|(name, value)| TreeField { name, value })
            .collect();
        self.tree.spans.push(one);
        self
    }

    /// Adds calls of 1 ms, one every 1.1 ms from `from` on.
    pub(super) fn calls(
        self,
        site: (u32, &'static str),
        parent: u32,
        from: u64,
        count: u64,
        fields: impl Fn(u64) -> Vec<Field>,
    ) -> Request {
        (0..count).fold(self, |request, at| {
            let start = from + at * 1_100;
            request.with(site, parent, (start, start + 1_000), &fields(at))
        })
    }

    pub(super) fn edit(mut self, edit: impl Fn(&mut TreeSpan)) -> Request {
        self.tree.spans.iter_mut().skip(1).for_each(edit);
        self
    }
}

fn span(site: u32, name: &'static str, parent: Option<u32>, from: u64, to: u64) -> TreeSpan {
    let site = Site::new(SiteId(site), name, "app", Some("src/app.rs"), Some(site));
    TreeSpan::new(Arc::new(site), parent, Nanos(from * US), Nanos(to * US))
}

/// A run that served these requests one after the other, and nothing else.
pub(super) fn served(requests: &[Request]) -> Planted {
    let trees: Vec<OperationTree> = requests
        .iter()
        .map(|request| request.tree.clone())
        .collect();
    let wall: u64 = trees.iter().map(|tree| tree.wall().0).sum();
    let count = trees.len() as u64;
    let mut root = plain(&[(wall / count, count)]);
    root.busy = Nanos(wall);
    root.self_time = Nanos::ZERO;
    let mut planted = Planted::run(wall / MS).site("root", None, root);
    planted.profile.wall = Nanos(wall);
    let mut lengths: Vec<(SiteId, Arc<Site>, u64, u64)> = Vec::new();
    for span in trees.iter().flat_map(|tree| tree.spans.iter().skip(1)) {
        match lengths.iter_mut().find(|known| known.0 == span.site.id) {
            Some(known) => {
                known.2 += span.length().0;
                known.3 += 1;
            }
            None => {
                let site = Arc::clone(&span.site);
                lengths.push((site.id, site, span.length().0, 1));
            }
        }
    }
    lengths.sort_by_key(|known| known.0);
    for (_, site, sum, count) in lengths {
        let stats = sampled(plain(&[(sum / count, count)]), 0, 0);
        planted = planted.site(site.name, Some(0), stats);
        // The row is that of the tree's callsite.
        let row = planted.profile.sites.last_mut().unwrap();
        row.site = Arc::clone(&site);
        planted.profile.paths.last_mut().unwrap().site = site;
    }
    let site = Arc::clone(&trees[0].spans[0].site);
    let kept = trees.into_iter().map(KeptTree::sampled).collect();
    planted.profile.trees = vec![RootTrees::new(site, kept)];
    planted
}

/// A run that served so many requests more than there are trees of, which are alike on average.
pub(super) fn with_others(mut planted: Planted, times: u64) -> Planted {
    let profile = &mut planted.profile;
    profile.wall = Nanos(profile.wall.0 * times);
    for group in &mut profile.trees {
        group.roots *= times;
        group.wall = Nanos(group.wall.0 * times);
    }
    let paths = profile.paths.iter_mut().map(|path| &mut path.stats);
    let sites = profile.sites.iter_mut().map(|row| &mut row.stats);
    for stats in paths.chain(sites) {
        stats.calls *= times;
        stats.busy = Nanos(stats.busy.0 * times);
        stats.self_time = Nanos(stats.self_time.0 * times);
    }
    planted
}

/// `count` requests alike.
pub(super) fn served_often(count: usize, request: &Request) -> Planted {
    served(&vec![request.clone(); count])
}
