//! One row per callsite, by self time.

use std::collections::HashMap;

use super::number::{count, counted, percent};
use super::page::{Line, Page, Role};
use super::split::Whole;
use super::table::Table;
use super::visible::visible;
use crate::model::{GpuTotals, Nanos, Profile, Site, SiteStats};

/// Rows of the table.
const TOP: usize = 20;

/// Notes on first calls.
const FIRST_CALLS: usize = 3;

/// A first call is worth a note from this many times the median on, if other calls exist to compare with.
const FIRST_FACTOR: u64 = 10;

/// Below this no first call is worth a note.
const FIRST_AT_LEAST: Nanos = Nanos(1_000_000);

/// Returns the name of each site; where sites share a name, with as much of the target as tells them apart, or else with
/// the place in the source.
pub(super) fn labels(profile: &Profile) -> Vec<String> {
    // Counts rather than comparisons: a program may have ten thousand sites of one name.
    let mut by_name: HashMap<&str, u64> = HashMap::new();
    let mut by_segment: HashMap<(&str, &str), u64> = HashMap::new();
    let mut by_target: HashMap<(&str, &str), u64> = HashMap::new();
    for row in &profile.sites {
        let Site { name, target, .. } = *row.site;
        *by_name.entry(name).or_default() += 1;
        *by_segment.entry((name, last_segment(target))).or_default() += 1;
        *by_target.entry((name, target)).or_default() += 1;
    }
    let label = |site: &Site| {
        let (name, target) = (visible(site.name), visible(site.target));
        let segment = last_segment(site.target);
        if by_name.get(site.name) == Some(&1) {
            name.into_owned()
        } else if by_segment.get(&(site.name, segment)) == Some(&1) {
            format!("{}::{name}", visible(segment))
        } else if by_target.get(&(site.name, site.target)) == Some(&1) {
            format!("{target}::{name}")
        } else {
            let place = site.location().unwrap_or_else(|| site.target.to_owned());
            format!("{name} ({})", visible(&place))
        }
    };
    profile.sites.iter().map(|row| label(&row.site)).collect()
}

fn last_segment(target: &str) -> &str {
    target.rsplit("::").next().unwrap_or(target)
}

pub(super) fn print(profile: &Profile, whole: &Whole, page: &mut Page) {
    let rows = profile.sites.get(..TOP).unwrap_or(&profile.sites);
    let errors = rows.iter().any(|row| row.stats.errors > 0);
    let asynchronous = rows.iter().any(|row| row.stats.is_async());
    let gpu = rows.iter().any(|row| row.stats.gpu.is_some());
    page.section(
        "SITES BY SELF TIME",
        if asynchronous {
            "self % of thread time; p50 to max per call, async (~) from open to close"
        } else {
            "self % of thread time; p50 to max per call"
        },
    );
    let mut titles = vec!["site", "calls"];
    if errors {
        titles.push("err");
    }
    titles.extend(["self", "self %", "busy"]);
    if gpu {
        titles.extend(["GPU", "GPU own"]);
    }
    if asynchronous {
        titles.push("idle");
    }
    titles.extend(["p50", "p95", "p99", "max"]);
    if asynchronous {
        titles.push("polls");
    }
    let mut table = Table::new(&titles);
    let labels = labels(profile);
    for (row, label) in rows.iter().zip(&labels) {
        table.row(cells(row, label, whole, [errors, gpu, asynchronous]));
    }
    let dropped = table.print(page);
    if !dropped.is_empty() {
        let text = format!(
            "No room for {}; the JSON report has them.",
            dropped.join(", ")
        );
        page.paragraph(Role::Dim, "", 0, &text);
    }
    let others = &profile.sites[rows.len()..];
    if !others.is_empty() {
        let own: Nanos = others.iter().map(|row| row.stats.self_time).sum();
        let number = counted(others.len() as u64, "more site");
        let share = percent(whole.share(own));
        page.push(Line::new().text(format!("and {number} ({share} of thread time)")));
    }
    first_calls(rows, &labels, page);
}

fn cells(
    row: &SiteStats,
    label: &str,
    whole: &Whole,
    [errors, gpu, asynchronous]: [bool; 3],
) -> Vec<(Role, String)> {
    let stats = &row.stats;
    let mark = if stats.is_async() { "~ " } else { "" };
    let mut cells = vec![
        (Role::Strong, format!("{mark}{label}")),
        (Role::Plain, count(stats.calls)),
    ];
    if errors {
        let role = if stats.errors > 0 {
            Role::Strong
        } else {
            Role::Plain
        };
        cells.push((role, count(stats.errors)));
    }
    cells.push((Role::Strong, stats.self_time.to_string()));
    cells.push((Role::Strong, percent(whole.share(stats.self_time))));
    cells.push((Role::Plain, stats.busy.to_string()));
    if gpu {
        let of = stats.gpu.as_deref();
        let busy = |totals: Option<&GpuTotals>| {
            totals.map_or_else(|| "-".to_owned(), |totals| totals.busy.to_string())
        };
        cells.push((Role::Plain, busy(of.map(|gpu| &gpu.total))));
        cells.push((Role::Plain, busy(of.map(|gpu| &gpu.own))));
    }
    if asynchronous {
        let idle = stats
            .idle
            .map_or_else(|| "-".to_owned(), |idle| idle.to_string());
        cells.push((Role::Plain, idle));
    }
    let calls = stats.operations();
    for value in [
        calls.quantiles.p50,
        calls.quantiles.p95,
        calls.quantiles.p99,
        calls.max,
    ] {
        let text = if calls.count == 0 {
            "-".to_owned()
        } else {
            value.to_string()
        };
        cells.push((Role::Plain, text));
    }
    if asynchronous {
        let polls = if stats.is_async() {
            count(stats.activations)
        } else {
            "-".to_owned()
        };
        cells.push((Role::Plain, polls));
    }
    cells
}

fn first_calls(rows: &[SiteStats], labels: &[String], page: &mut Page) {
    let slow = rows.iter().zip(labels).filter_map(|(row, label)| {
        let first = row.stats.first?;
        let median = row.stats.operations().quantiles.p50;
        let much = first >= FIRST_AT_LEAST && first.0 / FIRST_FACTOR >= median.0.max(1);
        (row.stats.calls > 2 && much).then_some((first, median, label))
    });
    for (first, median, label) in slow.take(FIRST_CALLS) {
        let text = format!("The first call of {label} took {first}; the median is {median}.");
        page.paragraph(Role::Plain, "", 0, &text);
    }
}
