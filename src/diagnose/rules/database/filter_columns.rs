//! Which columns a query filters by: what an index could be about.

/// The most columns that advice names.
const MOST: usize = 4;

/// Returns the columns that are compared after `WHERE`, in their order. Guesswork on text: subqueries and functions give
/// too few, never nonsense beyond words of the query.
pub(super) fn of(query: &str) -> Vec<&str> {
    let Some(at) = find_word(query, "WHERE") else {
        return Vec::new();
    };
    let mut columns = Vec::new();
    let mut before: Option<&str> = None;
    for word in query[at..].split_whitespace() {
        if is_any(
            word,
            &["GROUP", "ORDER", "LIMIT", "HAVING", "RETURNING", "UNION"],
        ) {
            break;
        }
        // `a=?` is one word.
        let operator = word.find(['=', '<', '>', '!']);
        let column = match operator {
            Some(0) => before,
            Some(at) => word.get(..at),
            None if is_any(word, &["IN", "LIKE", "ILIKE", "BETWEEN", "IS"]) => before,
            None => None,
        };
        before = Some(word);
        let name = column.map(|column| column.trim_start_matches('('));
        let name = name.filter(|name| is_name(name) && !is_any(name, &["NOT", "AND", "OR"]));
        if let Some(name) = name.filter(|name| !columns.contains(name)) {
            columns.push(name);
        }
        if columns.len() >= MOST {
            break;
        }
    }
    columns
}

fn is_name(word: &str) -> bool {
    let starts = word.starts_with(|at: char| at.is_alphabetic() || matches!(at, '_' | '"' | '`'));
    let fits = |at: char| at.is_alphanumeric() || matches!(at, '_' | '.' | '"' | '`');
    starts && word.chars().all(fits)
}

fn is_any(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    let upper = text.to_ascii_uppercase();
    let mut from = 0;
    while let Some(at) = upper[from..].find(word).map(|at| at + from) {
        let end = at + word.len();
        let alone = |side: Option<char>| side.is_none_or(|side| !side.is_alphanumeric());
        if alone(upper[..at].chars().last()) && alone(upper[end..].chars().next()) {
            return Some(end);
        }
        from = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn compared_columns_are_named_and_values_are_not() {
        let query =
            "SELECT * FROM t WHERE (o.user_id = ? AND city IN (?)) OR age>=? ORDER BY name = ?";
        assert_eq!(of(query), ["o.user_id", "city", "age"]);
        assert!(of("SELECT 1").is_empty());
        assert!(of("SELECT nowhere FROM t").is_empty());
        assert!(of("SELECT a FROM t WHERE ? = ? AND NOT IN (?)").is_empty());
    }
}
