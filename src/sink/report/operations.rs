//! What databases and other programs were asked for.

use super::number::{bytes, count, counted, percent, significant};
use super::page::{Page, Role};
use super::table::Table;
use super::visible::visible;
use crate::model::{Diagnosis, OperationRow, OperationTables};

/// Rows of a table; the JSON report has more.
const TOP: usize = 10;

pub(super) fn print(diagnosis: &Diagnosis, page: &mut Page) {
    let Some(tables) = &diagnosis.operations else {
        return;
    };
    let named = [
        ("DATABASE OPERATIONS", "query", &tables.database),
        ("NETWORK OPERATIONS", "request", &tables.network),
    ];
    for (title, first, rows) in named {
        if !rows.is_empty() {
            page.section(title, &basis(tables));
            table(first, rows).print(page);
            if rows.len() > TOP {
                let more = format!("and {} with less time", count((rows.len() - TOP) as u64));
                page.paragraph(Role::Dim, "", 0, &more);
            }
        }
    }
}

/// Says what the figures rest on.
fn basis(tables: &OperationTables) -> String {
    let roots = counted(tables.roots, "root");
    match tables.exact {
        true => format!("from all {roots}"),
        false => format!("estimated from {} of {roots}", count(tables.trees)),
    }
}

/// Columns that no row fills are left out.
fn table(first: &str, rows: &[OperationRow]) -> Table {
    let rows = &rows[..rows.len().min(TOP)];
    let errors = rows.iter().any(|row| row.errors > 0);
    let with_rows = rows.iter().any(|row| row.rows.is_some());
    let with_bytes = rows.iter().any(|row| row.bytes.is_some());
    let mut titles = vec![first, "calls", "mean", "p95", "total", "of the time"];
    titles.extend(errors.then_some("failed"));
    titles.extend(with_rows.then_some("rows each"));
    titles.extend(with_bytes.then_some("size each"));
    let mut table = Table::new(&titles);
    for row in rows {
        let plain = |text: String| (Role::Plain, text);
        let mut cells = vec![
            plain(visible(&row.shape).into_owned()),
            plain(count(row.count)),
            plain(row.mean.to_string()),
            plain(row.p95.to_string()),
            plain(row.total.to_string()),
            (Role::Strong, percent(row.share)),
        ];
        let missing = || "-".to_owned();
        cells.extend(errors.then(|| plain(count(row.errors))));
        cells.extend(with_rows.then(|| plain(row.rows.map_or_else(missing, significant))));
        cells.extend(with_bytes.then(|| plain(row.bytes.map_or_else(missing, bytes))));
        table.row(cells);
    }
    table
}
