//! Names come from the measured program, which may pass on what a stranger sent. None of it may steer the terminal.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

/// Returns `text` with everything that a terminal obeys or hides spelled out: `\n`, `\u{1b}`, `\u{202e}`.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_hostile(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters, those that reorder or break lines, and those that show nothing at all.
///
/// The joiners U+200C and U+200D stay: several scripts cannot be written without them.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns how many terminal columns `text` takes.
pub(super) fn columns(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.width()
    }
}

/// Shortens `text` to at most `width` columns; what is left out is replaced by `mark`.
pub(super) fn cut<'a>(text: &'a str, width: usize, mark: &str) -> Cow<'a, str> {
    // A name of nothing but combining characters takes no column however long it is, hence the second limit.
    let longest = width.saturating_mul(4);
    if text.len() <= longest && columns(text) <= width {
        return Cow::Borrowed(text);
    }
    if text.chars().count() <= longest && columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    // The width of a text is not the sum of its characters' widths, so every step measures the whole.
    for c in text.chars().take(longest) {
        short.push(c);
        if columns(&short) + columns(mark) > width {
            short.pop();
            break;
        }
    }
    short.push_str(mark);
    if columns(&short) > width {
        short.clear();
    }
    Cow::Owned(short)
}

/// What belongs to the number before it.
const UNITS: [&str; 6] = ["%", "ns", "us", "ms", "s", "MiB"];

/// Returns the words of a text; a number and its unit are one.
fn words(text: &str) -> Vec<Cow<'_, str>> {
    let mut words: Vec<Cow<'_, str>> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let bare = word.trim_end_matches([',', '.', ';', ':', ')']);
        match words.last_mut() {
            Some(last) if UNITS.contains(&bare) && last.ends_with(|c: char| c.is_ascii_digit()) => {
                *last = Cow::Owned(format!("{last} {word}"));
            }
            _ => words.push(Cow::Borrowed(word)),
        }
    }
    words
}

/// Splits `text` into lines of at most `width` columns, between words where that is possible.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in words(text) {
        let word = word.as_ref();
        let length = line.len();
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if columns(&line) <= width {
            continue;
        }
        line.truncate(length);
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            line.push(c);
            if columns(&line) > width {
                line.pop();
                if !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(c);
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(visible("a\u{1b}[31mb\nc\r\t"), "a\\u{1b}[31mb\\nc\\r\\t");
        assert_eq!(
            visible("\u{202e}txt\u{9b}\u{7f}"),
            "\\u{202e}txt\\u{9b}\\u{7f}"
        );
        assert!(matches!(visible("größe 文 e\u{301}"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_cut_never_takes_more_columns_than_allowed() {
        assert_eq!(cut("tokenise", 8, "…"), "tokenise");
        assert_eq!(cut("tokenise", 5, "…"), "toke…");
        assert_eq!(cut("文文文", 4, "…"), "文…");
        assert_eq!(cut("文文文", 0, "…"), "");
        let zalgo = "e".to_owned() + &"\u{301}".repeat(10_000);
        assert!(cut(&zalgo, 10, "…").chars().count() <= 41);
    }

    #[test]
    fn text_wraps_between_words_and_inside_words_that_do_not_fit() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("it took 20 ms, once", 11), ["it took", "20 ms, once"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert!(wrap("", 10).is_empty());
    }
}
