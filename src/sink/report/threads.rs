//! The threads that entered spans, and how many operations they finished over time.

use super::number::{count, counted, percent, significant};
use super::page::{Line, Page, Role};
use super::sparkline::sparkline;
use super::table::Table;
use super::visible::{columns, visible};
use crate::model::{Nanos, Profile, ThreadStats};

/// Rows of the table.
const TOP: usize = 12;

/// CPU time that no row has is worth a line from this length and this part of the process's CPU time on.
const LEAST_ELSEWHERE: Nanos = Nanos(50_000_000);
const LEAST_ELSEWHERE_PART: f64 = 0.1;

/// A live thread's CPU time counts from the sampler's first look at it, which comes this much later at most.
const UNSEEN: Nanos = Nanos(50_000_000);

/// Of an ended thread this part of its time may be missing as well, since its last reading.
const UNREAD_PART: u64 = 8;

pub(super) fn print(profile: &Profile, page: &mut Page) {
    if !profile.threads.is_empty() {
        threads(&profile.threads, page);
        if let Some(elsewhere) = cpu_elsewhere(profile) {
            let text = format!(
                "At least {elsewhere} of CPU were used by threads without spans (a pool, a runtime, the allocator) or \
                 before a thread's first span: no row above counts them."
            );
            page.paragraph(Role::Plain, "", 0, &text);
        }
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
        let busy: Nanos = hidden.iter().map(|row| row.busy).sum();
        let text = format!("and {} (busy {busy})", counted(number, "more thread"));
        page.push(Line::new().text(text));
    }
}

/// Returns the CPU time that the process used clearly beyond what the threads with spans and the layer's own can have.
fn cpu_elsewhere(profile: &Profile) -> Option<Nanos> {
    let used = profile.process.cpu?;
    let known: Nanos = profile.threads.iter().map(most_cpu).sum();
    let own = profile.overhead.background_cpu.unwrap_or_default();
    let elsewhere = used.saturating_sub(known.saturating_add(own));
    (elsewhere > LEAST_ELSEWHERE && elsewhere.share_of(used) > LEAST_ELSEWHERE_PART)
        .then_some(elsewhere)
}

/// Returns the most CPU time that the threads of a row can have used while observed.
fn most_cpu(row: &ThreadStats) -> Nanos {
    let Some(cpu) = row.cpu else {
        // Outside of spans threads compute as well, so the busy time is no bound.
        return row.observed;
    };
    let unread = if row.ended {
        row.observed.0 / UNREAD_PART
    } else {
        0
    };
    let most = cpu.saturating_add(UNSEEN).saturating_add(Nanos(unread));
    most.min(row.observed.max(cpu))
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
