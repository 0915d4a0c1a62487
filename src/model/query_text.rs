//! The shape of a query: what stays the same when only the values differ.

/// The target of events that say how long a query took, as sqlx emits them. The operations that trees make out of them
/// have it too.
pub(crate) const QUERY_EVENTS: &str = "sqlx::query";

/// Returns a query without its values: literals and parameters are `?`, lists of them one, comments are gone and
/// whitespace is folded. Text that is cut, or no SQL at all, gives something as well; it never fails.
pub(crate) fn query_shape(text: &str) -> String {
    let mut shape = Shape {
        out: String::with_capacity(text.len().min(512)),
    };
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = shape.token(rest, first);
    }
    shape.finish()
}

/// Returns the beginning of a text, at most `most` characters of it with the mark that more follows.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(most.saturating_sub(3)).collect();
            format!("{}...", kept.trim_end())
        }
    }
}

struct Shape {
    out: String,
}

impl Shape {
    /// Takes one token off the text; returns what is behind it.
    fn token<'t>(&mut self, text: &'t str, first: char) -> &'t str {
        let after = |bytes: usize| text.get(bytes..).unwrap_or_default();
        let next = after(first.len_utf8()).chars().next();
        match (first, next) {
            ('-', Some('-')) => {
                self.space();
                text.split_once('\n').map_or("", |(_, rest)| rest)
            }
            ('/', Some('*')) => {
                self.space();
                after(2).split_once("*/").map_or("", |(_, rest)| rest)
            }
            ('\'', _) => {
                self.value();
                behind_quotes(after(1), '\'')
            }
            ('"', _) => self.quoted(after(1)),
            ('$' | ':' | '@' | '?', Some(next)) if next.is_ascii_alphanumeric() || next == '_' => {
                let rest = behind_word(after(1));
                self.value();
                // Text between dollar signs, as in `$body$ ... $body$`.
                match (first, rest.strip_prefix('$')) {
                    ('$', Some(inside)) => {
                        let tag = &text[..text.len() - inside.len()];
                        inside.split_once(tag).map_or("", |(_, rest)| rest)
                    }
                    _ => rest,
                }
            }
            ('$', Some('$')) => {
                self.value();
                after(2).split_once("$$").map_or("", |(_, rest)| rest)
            }
            (':', Some(':')) => {
                self.out.push_str("::");
                after(2)
            }
            ('?', _) => {
                self.value();
                after(1)
            }
            (digit, _) if digit.is_ascii_digit() => {
                self.value();
                behind_number(text)
            }
            (space, _) if space.is_whitespace() => {
                self.space();
                text.trim_start()
            }
            (letter, _) if letter.is_alphanumeric() || letter == '_' => {
                let rest = behind_word(text);
                self.out.push_str(&text[..text.len() - rest.len()]);
                rest
            }
            (')' | ',', _) => {
                self.out.truncate(self.out.trim_end().len());
                self.out.push(first);
                if first == ')' {
                    self.fold_rows();
                }
                after(1)
            }
            _ => {
                self.out.push(first);
                after(first.len_utf8())
            }
        }
    }

    /// Double quotes are around a name in most dialects, around a text in others.
    fn quoted<'t>(&mut self, inside: &'t str) -> &'t str {
        let rest = behind_quotes(inside, '"');
        let body = inside[..inside.len() - rest.len()].trim_end_matches('"');
        let is_name = body
            .chars()
            .all(|at| at.is_alphanumeric() || matches!(at, '_' | '.' | '$'));
        match is_name && !body.chars().all(|at| at.is_ascii_digit()) {
            true => {
                self.out.push('"');
                self.out.push_str(body);
                self.out.push('"');
            }
            false => self.value(),
        }
        rest
    }

    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with([' ', '(']) {
            self.out.push(' ');
        }
    }

    /// A value; several with commas between are one.
    fn value(&mut self) {
        // The sign belongs to it where an operand must follow.
        for sign in ['-', '+'] {
            if let Some(before) = self.out.strip_suffix(sign)
                && before.trim_end().ends_with(['(', ',', '=', '<', '>'])
            {
                self.out.pop();
            }
        }
        let folded = self.out.trim_end();
        if folded.ends_with("?,") {
            let length = folded.len() - 1;
            self.out.truncate(length);
        } else {
            self.out.push('?');
        }
    }

    /// Several rows of values are one.
    fn fold_rows(&mut self) {
        if let Some(before) = self.out.strip_suffix("(?)") {
            let before = before.trim_end();
            if let Some(first) = before.strip_suffix(',')
                && first.ends_with("(?)")
            {
                let length = first.len();
                self.out.truncate(length);
            }
        }
    }

    /// The end may be one where the text was cut: inside a list there is nothing to tell two lengths of it apart.
    fn finish(mut self) -> String {
        loop {
            let kept = self.out.trim_end_matches([' ', ';', ',']);
            let kept = match kept.strip_suffix('(').or(kept.strip_suffix("(?")) {
                Some(before) if before.trim_end().ends_with("(?),") => before,
                _ => kept,
            };
            if kept.len() == self.out.len() {
                return self.out;
            }
            let length = kept.len();
            self.out.truncate(length);
        }
    }
}

/// Returns what is behind the closing quote; a doubled one is part of the text.
fn behind_quotes(mut inside: &str, quote: char) -> &str {
    loop {
        let Some((_, rest)) = inside.split_once(quote) else {
            return "";
        };
        match rest.strip_prefix(quote) {
            Some(more) => inside = more,
            None => return rest,
        }
    }
}

fn behind_word(text: &str) -> &str {
    text.trim_start_matches(|at: char| at.is_alphanumeric() || at == '_')
}

fn behind_number(text: &str) -> &str {
    let rest = behind_word(text);
    let fraction = rest.strip_prefix('.');
    let rest = fraction.map_or(rest, behind_word);
    // 1e-3
    match rest.strip_prefix(['-', '+']) {
        Some(exponent)
            if text[..text.len() - rest.len()].ends_with(['e', 'E'])
                && exponent.starts_with(|at: char| at.is_ascii_digit()) =>
        {
            behind_word(exponent)
        }
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_that_differ_in_their_values_have_one_shape() {
        let shape = "SELECT name FROM users WHERE id = ? AND city = ?";
        for query in [
            "SELECT name FROM users WHERE id = 17 AND city = 'Rome'",
            "SELECT name\n  FROM users -- by id\n  WHERE id = $1 AND city = $2;",
            "SELECT name FROM users WHERE id = -4.5e-3 AND city = 'O''Neil'",
            "SELECT name FROM users WHERE id = :id /* hint */ AND city = @city",
            "SELECT name FROM users WHERE id = ?1 AND city = $$Rome$$ ",
        ] {
            assert_eq!(query_shape(query), shape, "{query}");
        }
    }

    #[test]
    fn lists_and_rows_of_any_length_are_one_value() {
        for query in ["a IN (1, 2, 3)", "a IN ( $1,$2 )", "a IN (?)"] {
            assert_eq!(query_shape(query), "a IN (?)");
        }
        for query in [
            "INSERT INTO t1 (a, b) VALUES (1, 'x'), (2, 'y'), (3, 'z')",
            "INSERT INTO t1 (a, b) VALUES (?, ?)",
            "INSERT INTO t1 (a, b) VALUES (?, ?), (?, ",
            "INSERT INTO t1 (a, b) VALUES (?, ?), (?, ?), (",
        ] {
            assert_eq!(query_shape(query), "INSERT INTO t1 (a, b) VALUES (?)");
        }
    }

    #[test]
    fn names_with_digits_and_in_quotes_stay() {
        let query = r#"SELECT t2.c3, "order"."id", x::text, NULL FROM t2"#;
        assert_eq!(query_shape(query), query);
        assert_eq!(query_shape(r#"name = "a b""#), "name = ?");
    }

    #[test]
    fn a_long_text_is_cut_with_a_mark() {
        assert_eq!(shortened("short", 10), "short");
        assert_eq!(shortened("äöüäöüäöüäöü", 10), "äöüäöüä...");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_text_has_a_shape_that_is_no_longer_than_it(text in "[ a-zäE0-9'\"$?:@.,();*/\n-]{0,60}") {
            let once = query_shape(&text);
            prop_assert!(once.len() <= text.len() + 1, "{text:?} -> {once:?}");
            let _ = query_shape(&once);
        }
    }
}
