//! A table whose first column gives way and whose last columns are dropped where the page is narrow.

use super::page::{Line, Page, Role};
use super::visible::{columns, cut};

/// Between two columns.
const GAP: usize = 2;

/// What the first column keeps, if it needs as much, before the last column is dropped.
const MIN_NAME: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table; every row has one cell for each column.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<(Role, String)>>,
}

impl Table {
    /// Begins a table whose first column is a name, and whose others are numbers.
    pub(super) fn new(titles: &[&str]) -> Table {
        let columns = titles
            .iter()
            .enumerate()
            .map(|(at, &title)| {
                let align = if at == 0 { Align::Left } else { Align::Right };
                (title.to_owned(), align)
            })
            .collect();
        Table {
            columns,
            rows: Vec::new(),
        }
    }

    /// Makes the last column a text.
    pub(super) fn last_is_text(mut self) -> Table {
        if let Some((_, align)) = self.columns.last_mut() {
            *align = Align::Left;
        }
        self
    }

    pub(super) fn row(&mut self, cells: Vec<(Role, String)>) {
        self.rows.push(cells);
    }

    /// Writes the table and returns the titles of the columns for which there was no room.
    pub(super) fn print(self, page: &mut Page) -> Vec<String> {
        let mut widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                let widest = cells.map(|(_, text)| columns(text)).max().unwrap_or(0);
                widest.max(columns(&self.columns[at].0))
            })
            .collect();
        let name = widths.first().copied().unwrap_or(0);
        let others = |widths: &[usize]| -> usize { widths.iter().skip(1).map(|w| w + GAP).sum() };
        while widths.len() > 2 && name.min(MIN_NAME) + others(&widths) > page.width {
            widths.pop();
        }
        let room = page.width.saturating_sub(others(&widths));
        if let Some(first) = widths.first_mut() {
            *first = name.min(room);
        }

        let titles = self
            .columns
            .iter()
            .map(|(title, _)| (Role::Dim, title.clone()));
        let head = self.line(page, &widths, &titles.collect::<Vec<_>>());
        page.push(head);
        for row in &self.rows {
            let line = self.line(page, &widths, row);
            page.push(line);
        }
        let dropped = self.columns.into_iter().skip(widths.len());
        dropped.map(|(title, _)| title).collect()
    }

    fn line(&self, page: &Page, widths: &[usize], cells: &[(Role, String)]) -> Line {
        let mut line = Line::new();
        for (at, (width, (role, text))) in widths.iter().zip(cells).enumerate() {
            let text = cut(text, *width, page.glyphs.ellipsis);
            let pad = " ".repeat(width.saturating_sub(columns(&text)));
            let gap = if at == 0 { "" } else { "  " };
            line = match self.columns[at].1 {
                Align::Left => line.text(gap).with(*role, text).text(pad),
                Align::Right => line.text(format!("{gap}{pad}")).with(*role, text),
            };
        }
        line
    }
}
