//! The call tree of the heaviest paths.

use std::collections::HashMap;

use super::number::{count, counted, percent};
use super::page::{Line, Page, Role};
use super::sites::labels;
use super::split::Whole;
use super::table::Table;
use super::visible::visible;
use crate::model::{Nanos, PathStats, Profile, SiteId};

/// Lines of the tree.
const LINES: usize = 30;

/// A path is not shown where neither its own share of the thread time nor that of what is below it reaches this.
const MIN_SHARE: f64 = 0.01;

/// Deeper than this the branches stop moving to the right; the depth is written out.
const MAX_INDENT: u32 = 12;

pub(super) fn print(profile: &Profile, whole: &Whole, page: &mut Page) {
    let shown = shown(&profile.paths, whole);
    if !shown.contains(&true) {
        return;
    }
    page.section("CALL TREE", "busy time by path, as a share of thread time");
    let idle = profile
        .paths
        .iter()
        .zip(&shown)
        .any(|(path, &shown)| shown && path.stats.idle.is_some());
    let gpu = profile
        .paths
        .iter()
        .zip(&shown)
        .any(|(path, &shown)| shown && path.stats.gpu.is_some());
    let mut titles = vec!["path", "calls", "busy", "busy %", "self"];
    if idle {
        titles.push("idle");
    }
    if gpu {
        titles.push("GPU");
    }
    let mut table = Table::new(&titles);
    let names: HashMap<SiteId, String> = profile
        .sites
        .iter()
        .map(|row| row.site.id)
        .zip(labels(profile))
        .collect();
    let last = last_children(&profile.paths, &shown);
    // Paths come parent before child and depth first, so the open branches are a stack.
    let mut open: Vec<bool> = Vec::new();
    for (at, path) in profile
        .paths
        .iter()
        .enumerate()
        .filter(|(at, _)| shown[*at])
    {
        open.truncate(path.depth as usize);
        open.resize(path.depth as usize, false);
        open.push(!last[at]);
        let own = || visible(path.site.name).into_owned();
        let name = names.get(&path.site.id).cloned().unwrap_or_else(own);
        let mut cells = vec![
            (
                Role::Plain,
                format!("{}{}", branches(path.depth, &open, page), name),
            ),
            (Role::Plain, count(path.stats.calls)),
            (Role::Plain, path.stats.busy.to_string()),
            (Role::Strong, percent(whole.share(path.stats.busy))),
            (Role::Plain, path.stats.self_time.to_string()),
        ];
        if idle {
            let text = path
                .stats
                .idle
                .map_or_else(|| "-".to_owned(), |idle| idle.to_string());
            cells.push((Role::Plain, text));
        }
        if gpu {
            let of = path.stats.gpu.as_ref();
            let text = of.map_or_else(|| "-".to_owned(), |gpu| gpu.total.busy.to_string());
            cells.push((Role::Plain, text));
        }
        table.row(cells);
    }
    table.print(page);
    let hidden = || {
        profile
            .paths
            .iter()
            .zip(&shown)
            .filter(|(_, shown)| !**shown)
    };
    let number = hidden().count() as u64;
    if number > 0 {
        let own: Nanos = hidden().map(|(path, _)| path.stats.self_time).sum();
        let share = percent(whole.share(own));
        let paths = counted(number, "smaller path");
        let ellipsis = page.glyphs.ellipsis;
        page.push(Line::new().text(format!(
            "{ellipsis} {paths} ({share} of thread time in their own code)"
        )));
    }
}

/// Marks the heaviest paths, never one without its parent.
fn shown(paths: &[PathStats], whole: &Whole) -> Vec<bool> {
    let weights = weights(paths);
    let mut heaviest: Vec<usize> = (0..paths.len())
        .filter(|&at| whole.share(weights[at]) >= MIN_SHARE)
        .collect();
    heaviest.sort_by_key(|&at| (std::cmp::Reverse(weights[at]), at));
    let mut shown = vec![false; paths.len()];
    for at in heaviest.into_iter().take(LINES) {
        shown[at] = true;
    }
    for at in 0..paths.len() {
        let parent_is_shown = paths[at]
            .parent
            .is_none_or(|parent| parent < at && shown[parent]);
        shown[at] = shown[at] && parent_is_shown;
    }
    shown
}

/// Returns for each path its busy time, or that of its children if that is more.
///
/// An async span is busy for little while its children run on other threads.
fn weights(paths: &[PathStats]) -> Vec<Nanos> {
    let mut weights = vec![Nanos::ZERO; paths.len()];
    let mut below = vec![Nanos::ZERO; paths.len()];
    // A parent stands before its children, so backwards all children are known.
    for (at, path) in paths.iter().enumerate().rev() {
        weights[at] = path.stats.busy.max(below[at]);
        if let Some(parent) = path.parent.filter(|&parent| parent < at) {
            below[parent] = below[parent].saturating_add(weights[at]);
        }
    }
    weights
}

/// Marks each shown path that has no shown sibling after it.
fn last_children(paths: &[PathStats], shown: &[bool]) -> Vec<bool> {
    let mut last = vec![false; paths.len()];
    let mut has_later = vec![false; paths.len()];
    let mut root_has_later = false;
    for (at, path) in paths.iter().enumerate().rev().filter(|(at, _)| shown[*at]) {
        let later = match path.parent {
            Some(parent) => &mut has_later[parent],
            None => &mut root_has_later,
        };
        last[at] = !*later;
        *later = true;
    }
    last
}

fn branches(depth: u32, open: &[bool], page: &Page) -> String {
    let [child, last, through, blank] = page.glyphs.branches;
    if depth == 0 {
        return String::new();
    }
    // A root has no branch of its own, so what is drawn begins with its children.
    let levels = open.get(1..).unwrap_or(&[]);
    let skip = levels.len().saturating_sub(MAX_INDENT as usize);
    let mut text = String::new();
    if skip > 0 {
        text.push_str(&format!("[{depth}] "));
    }
    let above = levels.len().saturating_sub(1);
    for &continues in &levels[skip.min(above)..above] {
        text.push_str(if continues { through } else { blank });
    }
    text.push_str(if levels.last() == Some(&true) {
        child
    } else {
        last
    });
    text
}
