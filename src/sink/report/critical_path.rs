//! What determined how long the roots took, and what a replay says would vanish.

use super::number::{counted, percent};
use super::page::{Page, Role};
use super::table::Table;
use super::visible::visible;
use crate::model::{CriticalPath, Diagnosis};

/// Rows of the table.
const TOP: usize = 5;
/// Less than this share of the whole is not told apart from nothing.
const LEAST: f64 = 0.01;

pub(super) fn print(diagnosis: &Diagnosis, page: &mut Page) {
    let Some(path) = &diagnosis.critical_path else {
        return;
    };
    if path.sites.is_empty() {
        return;
    }
    page.section("CRITICAL PATH", &basis(path));
    let titles = [
        "site",
        "on the path",
        "of the time",
        "without it",
        "95 %",
        "at most",
    ];
    let mut table = Table::new(&titles);
    for site in path.sites.iter().take(TOP) {
        table.row(vec![
            (Role::Plain, visible(&site.site).into_owned()),
            (Role::Plain, site.time.to_string()),
            (Role::Strong, percent(site.share)),
            (Role::Plain, saving(site.saving)),
            (Role::Dim, range(site.saving_low, site.saving_high)),
            (Role::Plain, saving(site.saving_most)),
        ]);
    }
    table.print(page);
    let text = "Without it: what a replay of the trees saves if the site's own time vanishes. Savings of several sites do \
                not add up.";
    page.paragraph(Role::Dim, "", 0, text);
}

/// Says what the figures rest on.
fn basis(path: &CriticalPath) -> String {
    let roots = counted(path.roots, "root");
    if path.trees == path.roots {
        format!("from all {roots}")
    } else {
        format!("from {} of {roots}", super::number::count(path.trees))
    }
}

/// Whole per cents: a sample says no more.
fn saving(share: f64) -> String {
    if !share.is_finite() || share < LEAST {
        "-".to_owned()
    } else {
        format!("{:.0} %", share * 100.0)
    }
}

fn range(low: f64, high: f64) -> String {
    if !high.is_finite() || high < LEAST {
        "-".to_owned()
    } else {
        format!("{:.0} to {:.0}", low * 100.0, high * 100.0)
    }
}
