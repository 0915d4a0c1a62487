//! The threads that entered spans, and how many operations they finished over time.

use super::number::{count, counted, percent, significant};
use super::page::{Line, Page, Role};
use super::sparkline::sparkline;
use super::table::Table;
use super::visible::{columns, visible};
use crate::model::{Profile, ThreadStats};

/// Rows of the table.
const TOP: usize = 12;

pub(super) fn print(profile: &Profile, page: &mut Page) {
    if !profile.threads.is_empty() {
        threads(&profile.threads, page);
    }
    if profile.throughput.per_window.iter().any(|&calls| calls > 0) {
        throughput(profile, page);
    }
}

fn threads(rows: &[ThreadStats], page: &mut Page) {
    page.section(
        "THREADS",
        "observed from the first span on; busy is inside spans",
    );
    let cpu = rows.iter().any(|row| row.cpu.is_some());
    let mut titles = vec!["thread", "tid", "observed", "busy", "busy %", "idle"];
    if cpu {
        titles.push("CPU");
    }
    let mut table = Table::new(&titles);
    let shown = rows.get(..TOP).unwrap_or(rows);
    for row in shown {
        let mut name = visible(&row.name).into_owned();
        if row.threads > 1 {
            name.push_str(&format!(" x{}", row.threads));
        }
        let mut cells = vec![
            (Role::Plain, name),
            (
                Role::Plain,
                row.tid
                    .map_or_else(|| "-".to_owned(), |tid| tid.to_string()),
            ),
            (Role::Plain, row.observed.to_string()),
            (Role::Plain, row.busy.to_string()),
            (Role::Strong, percent(row.busy.share_of(row.observed))),
            (Role::Plain, row.idle.to_string()),
        ];
        if cpu {
            let text = row
                .cpu
                .map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
            cells.push((Role::Plain, text));
        }
        table.row(cells);
    }
    table.print(page);
    let hidden = &rows[shown.len()..];
    if !hidden.is_empty() {
        let number: u64 = hidden.iter().map(|row| u64::from(row.threads)).sum();
        let busy: crate::model::Nanos = hidden.iter().map(|row| row.busy).sum();
        let text = format!("and {} (busy {busy})", counted(number, "more thread"));
        page.push(Line::new().text(text));
    }
}

fn throughput(profile: &Profile, page: &mut Page) {
    let throughput = &profile.throughput;
    page.section(
        "THROUGHPUT",
        "calls of root spans, which have nothing around them",
    );
    let total: u64 = throughput.per_window.iter().sum();
    let text = format!(
        "{} /s, {} in all, per {}: ",
        significant(throughput.per_second),
        count(total),
        throughput.window
    );
    let values: Vec<f64> = throughput
        .per_window
        .iter()
        .map(|&calls| calls as f64)
        .collect();
    let room = page.width.saturating_sub(columns(&text)).min(40);
    let graph = sparkline(&values, room, page.glyphs.spark);
    page.push(Line::new().text(text).text(graph));
}
