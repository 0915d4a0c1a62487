//! The report at exit: text for people, JSON for programs, both from the same values in the same order.

mod critical_path;
mod destination;
mod findings;
mod gpu;
mod json;
mod losses;
mod number;
mod operations;
mod page;
mod resources;
mod sites;
mod sparkline;
mod split;
mod table;
mod targets;
mod text;
mod threads;
mod tree;
mod visible;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;

use terminal_size::Width;

pub use json::{JsonSink, report_json};
pub use text::TextSink;

use crate::model::{Diagnosis, Profile};
use page::{Line, Page, Role};

/// How the text report looks.
///
/// ```
/// use tracing_cortex::{TextOptions, TextSink};
///
/// let narrow = TextOptions::default().width(72).unicode(false);
/// let sink = TextSink::stderr().with_options(narrow);
/// # let _ = sink;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextOptions {
    /// Columns; no line is longer. Below 60 counts as 60. Tables drop columns rather than wrap.
    pub width: usize,
    /// Whether to write ANSI colours. No meaning rests on colour alone.
    pub colour: bool,
    /// Whether bars, graphs and branches may use characters beyond ASCII. Names always may.
    pub unicode: bool,
}

impl Default for TextOptions {
    /// 100 columns, no colour, all characters: right for a file.
    fn default() -> TextOptions {
        TextOptions {
            width: 100,
            colour: false,
            unicode: true,
        }
    }
}

impl TextOptions {
    /// Returns what suits standard error: the terminal's width (at most 160) and colours if it is one.
    ///
    /// Where there is no terminal the width is `COLUMNS`, or 100.
    /// `NO_COLOR` switches colours off, `CLICOLOR_FORCE` switches them on also where there is no terminal. A locale
    /// that is set to something else than UTF-8 keeps the graphs to ASCII.
    pub fn stderr() -> TextOptions {
        let stderr = std::io::stderr();
        let terminal = stderr.is_terminal();
        let size = terminal
            .then(|| terminal_size::terminal_size_of(stderr))
            .flatten();
        let width = size.map(|(Width(width), _)| usize::from(width));
        TextOptions::from_environment(width, terminal, |name| std::env::var(name).ok())
    }

    fn from_environment(
        width: Option<usize>,
        terminal: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> TextOptions {
        let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
        let forced =
            variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let utf8 = locale.is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        let columns = variable("COLUMNS").and_then(|columns| columns.parse().ok());
        TextOptions {
            width: width.or(columns).unwrap_or(100).clamp(page::MIN_WIDTH, 160),
            colour: !is_set("NO_COLOR") && (forced || (terminal && !dumb)),
            unicode: utf8 && !(terminal && dumb),
        }
    }

    /// Sets [`TextOptions::width`].
    pub fn width(mut self, columns: usize) -> TextOptions {
        self.width = columns;
        self
    }

    /// Sets [`TextOptions::colour`].
    pub fn colour(mut self, colour: bool) -> TextOptions {
        self.colour = colour;
        self
    }

    /// Sets [`TextOptions::unicode`].
    pub fn unicode(mut self, unicode: bool) -> TextOptions {
        self.unicode = unicode;
        self
    }
}

/// On a terminal the end of a long report is what one sees, so from this many lines on it repeats the headline.
const LONG: usize = 40;

/// Returns the report that is written at exit, for a profile taken at any time.
///
/// Whatever the program's span names contain, no control character of theirs is in it. Places in the source are shown
/// from the current folder.
///
/// ```
/// use tracing_cortex::{Profile, TextOptions, Thresholds, diagnose, report_text};
///
/// fn page(profile: &Profile) -> String {
///     let diagnosis = diagnose(profile, &Thresholds::default());
///     report_text(profile, &diagnosis, &TextOptions::default())
/// }
/// # assert!(page(&Profile::default()).contains("tracing-cortex"));
/// ```
pub fn report_text(profile: &Profile, diagnosis: &Diagnosis, options: &TextOptions) -> String {
    let mut page = Page::new(options);
    headline(profile, diagnosis, &mut page);
    findings::print(diagnosis, &mut page);
    targets::print(diagnosis, &mut page);
    critical_path::print(diagnosis, &mut page);
    operations::print(diagnosis, &mut page);
    let whole = split::Whole::of(profile);
    if !profile.sites.is_empty() {
        split::print(profile, &whole, &mut page);
    }
    // Before the tables that have columns of it, as it says what they mean.
    gpu::print(profile, &mut page);
    if !profile.sites.is_empty() {
        sites::print(profile, &whole, &mut page);
        tree::print(profile, &whole, &mut page);
    }
    threads::print(profile, &mut page);
    resources::print(profile, &mut page);
    losses::print(profile, &mut page);
    if page.lines() > LONG && !diagnosis.headline.is_empty() {
        page.blank();
        page.paragraph(Role::Strong, "", 0, &visible::visible(&diagnosis.headline));
    }
    page.finish()
}

fn headline(profile: &Profile, diagnosis: &Diagnosis, page: &mut Page) {
    let program = profile.process.name.as_deref().unwrap_or("this program");
    let program = visible::cut(&visible::visible(program), 30, page.glyphs.ellipsis).into_owned();
    let start: String = std::iter::repeat_n(page.glyphs.rule, 2).collect();
    let title = format!(" tracing-cortex: {program}, {} ", profile.wall);
    let rest = page.width.saturating_sub(2 + visible::columns(&title));
    let end: String = std::iter::repeat_n(page.glyphs.rule, rest).collect();
    page.push(
        Line::new()
            .with(Role::Dim, start)
            .with(Role::Title, title)
            .with(Role::Dim, end),
    );
    if !diagnosis.headline.is_empty() {
        page.paragraph(Role::Strong, "", 0, &visible::visible(&diagnosis.headline));
    }
    if profile.sites.is_empty() {
        page.paragraph(
            Role::Plain,
            "",
            0,
            "No span was entered. Is the layer part of the subscriber that is in use, and does a filter let spans \
             through? #[tracing::instrument] on a function makes one.",
        );
    }
}
