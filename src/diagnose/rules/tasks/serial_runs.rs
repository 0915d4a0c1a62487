//! Where in a tree async operations wait one after the other, for CTX103.

use crate::diagnose::fields::{self, Kind};
use crate::diagnose::thresholds::TaskThresholds;
use crate::model::{Nanos, OperationTree, SiteId, TreeKind, TreeSpan, TreeValue};

use super::tree;

/// Siblings that were awaited one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) parent: usize,
    /// The sites in their order; of a loop those of one round.
    pub(super) pattern: Vec<SiteId>,
    /// Operations that may run side by side: all of them, or those of one round of a loop, or of a loop over one site
    /// so many rounds as one would run at once.
    pub(super) groups: Vec<Vec<usize>>,
    /// Whether there is more than one round.
    pub(super) repeats: bool,
}

/// Finds all runs of at least two.
pub(super) fn of(tree: &OperationTree, thresholds: &TaskThresholds) -> Vec<Run> {
    let children = tree::children(tree);
    let mut runs = Vec::new();
    for (parent, siblings) in children.iter().enumerate() {
        if siblings.len() < 2
            || fields::flag(&tree.spans[parent], "cortex.independent") == Some(false)
        {
            continue;
        }
        for members in split(tree, thresholds, parent, siblings) {
            runs.push(run(tree, thresholds, parent, &members));
        }
    }
    runs
}

/// Splits siblings, which come by their start, where they do not just wait for one after the other.
fn split(
    tree: &OperationTree,
    thresholds: &TaskThresholds,
    parent: usize,
    siblings: &[usize],
) -> Vec<Vec<usize>> {
    let shortest = Nanos::from(thresholds.serial_await);
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut run: Vec<usize> = Vec::new();
    let mut end_run = |run: &mut Vec<usize>| {
        let ended = std::mem::take(run);
        if ended.len() >= 2 {
            runs.push(ended);
        }
    };
    let mut reached = Nanos::ZERO;
    for (place, &at) in siblings.iter().enumerate() {
        let span = &tree.spans[at];
        let next = siblings.get(place + 1).map(|&next| &tree.spans[next]);
        let alone = span.start >= reached && next.is_none_or(|next| next.start >= span.end);
        reached = reached.max(span.end);
        if alone && span.length() < shortest && !orders_others(span) {
            // What takes so little is part of the pause.
            continue;
        }
        if !alone || !only_waits(span, &tree.spans[parent], thresholds) {
            end_run(&mut run);
            continue;
        }
        if let Some(&last) = run.last() {
            let before = &tree.spans[last];
            let share = (before.length().0 as f64 * thresholds.serial_gap_share) as u64;
            let longest_pause = Nanos::from(thresholds.serial_gap).max(Nanos(share));
            let retried = before.error && before.site.id == span.site.id;
            if span.start.saturating_sub(before.end) > longest_pause
                || retried
                || run.iter().any(|&earlier| needs(tree, parent, at, earlier))
            {
                end_run(&mut run);
            }
        }
        run.push(at);
    }
    end_run(&mut run);
    runs
}

/// Whether an operation waits nearly all the time, and in a way that may as well happen beside another.
fn only_waits(span: &TreeSpan, parent: &TreeSpan, thresholds: &TaskThresholds) -> bool {
    let idle = 1.0 - span.busy.share_of(span.length());
    span.kind == TreeKind::Async
        && !span.unfinished
        && span.end <= parent.end
        && span.length() >= Nanos::from(thresholds.serial_await)
        && idle >= thresholds.serial_idle_share
        && !orders_others(span)
}

/// Whether what comes next has to come after it: it gets something that is then used, or changes something.
fn orders_others(span: &TreeSpan) -> bool {
    let gets = matches!(
        fields::kind(span),
        Some(Kind::Lock | Kind::Queue | Kind::Sync | Kind::Load)
    ) || fields::has_prefix(span, "pool.");
    let says_no = fields::flag(span, "cortex.independent") == Some(false)
        || fields::flag(span, "cortex.side_effect") == Some(true);
    gets || says_no || changes(span)
}

/// Whether the fields say that it changes data, as everything does that is neither a query nor a safe request.
fn changes(span: &TreeSpan) -> bool {
    const STATEMENTS: [&str; 4] = [
        "db.operation.name",
        "db.operation",
        "db.query.text",
        "db.statement",
    ];
    const METHODS: [&str; 2] = ["http.request.method", "http.method"];
    let first = |names: &[&str]| {
        let text = fields::first_text(span, names)?;
        text.split(|end: char| !end.is_ascii_alphabetic())
            .find(|word| !word.is_empty())
    };
    let is_one_of =
        |word: &str, safe: &[&str]| safe.iter().any(|safe| word.eq_ignore_ascii_case(safe));
    let writes = first(&STATEMENTS).is_some_and(|word| {
        !is_one_of(
            word,
            &[
                "select", "find", "get", "mget", "count", "scan", "with", "show",
            ],
        )
    });
    let posts = first(&METHODS).is_some_and(|word| !is_one_of(word, &["get", "head", "options"]));
    writes || posts
}

/// Whether an operation carries an id that an earlier one carries too and its parent does not, or is a query for a list of
/// keys after another query: the earlier one may have found them.
fn needs(tree: &OperationTree, parent: usize, at: usize, earlier: usize) -> bool {
    let (span, before) = (&tree.spans[at], &tree.spans[earlier]);
    if fields::kind(before) == Some(Kind::Database) && asks_for_list(span) {
        return true;
    }
    ids(span).any(|id| {
        ids(before).any(|other| other == id) && !ids(&tree.spans[parent]).any(|other| other == id)
    })
}

/// Whether a query asks for the rows with one of several keys.
fn asks_for_list(span: &TreeSpan) -> bool {
    let text = fields::first_text(span, &["db.query.text", "db.statement"]);
    text.is_some_and(|text| {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let is = |word: &str, list: &str| {
            word.get(..list.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(list))
        };
        words.iter().any(|word| is(word, "any("))
            || words.windows(2).any(|pair| {
                is(pair[1], "(")
                    && ["in", "any"]
                        .iter()
                        .any(|list| pair[0].eq_ignore_ascii_case(list))
            })
            || words.iter().any(|word| is(word, "in("))
    })
}

/// The values of fields whose names say that they are ids.
fn ids(span: &TreeSpan) -> impl Iterator<Item = &TreeValue> {
    let fields = span.fields.iter().filter(|field| {
        let last = field.name.rsplit(['.', '_']).next();
        matches!(last, Some("id" | "key"))
    });
    fields
        .map(|field| &field.value)
        .filter(|value| match value {
            TreeValue::Text(text) => !text.is_empty(),
            TreeValue::Integer(_) => true,
            TreeValue::Bool(_) | TreeValue::Number(_) => false,
        })
}

fn run(tree: &OperationTree, thresholds: &TaskThresholds, parent: usize, members: &[usize]) -> Run {
    let sites: Vec<SiteId> = members.iter().map(|&at| tree.spans[at].site.id).collect();
    let period = period(&sites);
    let size = match period {
        1 => thresholds.serial_batch.max(2),
        _ => period,
    };
    Run {
        parent,
        pattern: sites[..period].to_vec(),
        groups: members.chunks(size).map(<[usize]>::to_vec).collect(),
        repeats: period < sites.len(),
    }
}

/// Returns the length of the shortest beginning that, repeated, gives the whole; a last round may be incomplete.
fn period(sites: &[SiteId]) -> usize {
    let same = |period: usize| {
        sites
            .iter()
            .zip(&sites[period..])
            .all(|(one, other)| one == other)
    };
    let most = sites.len() / 2;
    (1..=most)
        .find(|&period| same(period))
        .unwrap_or(sites.len())
}
