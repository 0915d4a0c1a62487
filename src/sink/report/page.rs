//! The sheet that the sections write on: it knows the width, the colours and the character set.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::TextOptions;
use super::visible::{columns, cut};
use crate::model::Severity;

/// The narrowest page; on a narrower terminal lines wrap.
pub(super) const MIN_WIDTH: usize = 60;

/// What a piece of text is, from which follows how it looks. No meaning rests on it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    Title,
    Strong,
    Dim,
    Severity(Severity),
    /// A part of the stacked bar, by its place.
    Part(usize),
}

const PART_COLOURS: [AnsiColor; 4] = [
    AnsiColor::Red,
    AnsiColor::Yellow,
    AnsiColor::Cyan,
    AnsiColor::Magenta,
];

impl Role {
    fn style(self) -> Style {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        match self {
            Role::Plain => Style::new(),
            Role::Title => colour(AnsiColor::Cyan).bold(),
            Role::Strong => Style::new().bold(),
            Role::Dim => Style::new().dimmed(),
            Role::Severity(Severity::Critical | Severity::High) => colour(AnsiColor::Red).bold(),
            Role::Severity(Severity::Medium) => colour(AnsiColor::Yellow).bold(),
            Role::Severity(Severity::Low) => colour(AnsiColor::Cyan).bold(),
            Role::Severity(Severity::Info) => Style::new().bold(),
            Role::Part(place) => PART_COLOURS
                .get(place)
                .map_or(Style::new().dimmed(), |&c| colour(c)),
        }
    }
}

/// The characters that differ between a UTF-8 terminal and an ASCII one.
#[derive(Debug)]
pub(super) struct Glyphs {
    /// What stands for text that was left out.
    pub(super) ellipsis: &'static str,
    pub(super) rule: char,
    /// Fill the stacked bar: the largest sites by rank, then the other sites, the layer, uncovered time.
    pub(super) parts: [char; 7],
    /// By rising height.
    pub(super) spark: &'static [char],
    /// Child with siblings below, last child, and what goes in front of their children.
    pub(super) branches: [&'static str; 4],
    /// By rising severity.
    pub(super) severities: [&'static str; 5],
}

const UNICODE: Glyphs = Glyphs {
    ellipsis: "…",
    rule: '─',
    parts: ['█', '▓', '▒', '░', '=', '+', '·'],
    spark: &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
    branches: ["├ ", "└ ", "│ ", "  "],
    severities: ["i", "○", "●", "▲", "!!"],
};

const ASCII: Glyphs = Glyphs {
    ellipsis: "...",
    rule: '-',
    parts: ['#', '@', '%', 'o', '=', '+', '.'],
    spark: &['_', '.', '-', '=', '*', '#'],
    branches: ["|- ", "`- ", "|  ", "   "],
    severities: ["i", "-", "*", "!", "!!"],
};

/// One line in pieces.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<(Role, String)>);

impl Line {
    pub(super) fn new() -> Line {
        Line::default()
    }

    pub(super) fn text(self, text: impl Into<String>) -> Line {
        self.with(Role::Plain, text)
    }

    pub(super) fn with(mut self, role: Role, text: impl Into<String>) -> Line {
        self.0.push((role, text.into()));
        self
    }

    fn columns(&self) -> usize {
        let whole: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        columns(whole.trim_end())
    }
}

/// The text under construction.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) width: usize,
    pub(super) glyphs: &'static Glyphs,
    colour: bool,
    out: String,
}

impl Page {
    pub(super) fn new(options: &TextOptions) -> Page {
        Page {
            width: options.width.max(MIN_WIDTH),
            glyphs: if options.unicode { &UNICODE } else { &ASCII },
            colour: options.colour,
            out: String::new(),
        }
    }

    /// Writes one line, cut at the width of the page.
    pub(super) fn push(&mut self, line: Line) {
        let mut line = line;
        while line.columns() > self.width {
            let Some((role, last)) = line.0.pop() else {
                break;
            };
            let left = self.width.saturating_sub(line.columns());
            let short = cut(&last, left, self.glyphs.ellipsis).into_owned();
            // Nothing of this piece fits: the one before it must make room for the mark.
            if short.len() < last.len() && !short.is_empty() {
                line.0.push((role, short));
                if line.columns() > self.width {
                    line.0.pop();
                }
            }
        }
        let last = line.0.len().saturating_sub(1);
        for (at, (role, text)) in line.0.iter().enumerate() {
            let text = if at == last { text.trim_end() } else { text };
            if self.colour && *role != Role::Plain && !text.is_empty() {
                let style = role.style();
                // Writing to a String cannot fail.
                let _ = write!(self.out, "{style}{text}{style:#}");
            } else {
                self.out.push_str(text);
            }
        }
        self.out.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// Begins a section: an empty line, the title, and what its numbers mean.
    pub(super) fn section(&mut self, title: &str, caption: &str) {
        self.blank();
        let line = Line::new().with(Role::Title, title);
        if columns(title) + 2 + columns(caption) <= self.width {
            self.push(line.with(Role::Dim, format!("  {caption}")));
        } else {
            self.push(line);
            self.paragraph(Role::Dim, "", 0, caption);
        }
    }

    /// Writes text in as many lines as it takes, all but the first indented by `hang` columns.
    pub(super) fn paragraph(&mut self, role: Role, first: &str, hang: usize, text: &str) {
        let width = self.width.saturating_sub(hang).max(1);
        for (at, line) in super::visible::wrap(text, width).into_iter().enumerate() {
            let lead = if at == 0 {
                format!("{first:<hang$}")
            } else {
                " ".repeat(hang)
            };
            self.push(Line::new().with(Role::Plain, lead).with(role, line));
        }
    }

    /// Returns how many lines there are so far.
    pub(super) fn lines(&self) -> usize {
        self.out.lines().count()
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}
