//! Operations out of events that say how long a query took.
//!
//! sqlx has no spans. It emits an event at the end of each query, with the time that it took: so much before the event it
//! began.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::raw::Raw;
use crate::model::{
    EventRecord, Level, Nanos, QUERY_EVENTS, Site, SiteId, TreeField, TreeKind, TreeValue, Value,
    query_shape, shortened,
};

/// The most different queries that have a site of their own; further ones share one.
const MOST: usize = 500;
/// Characters of a query in the name of its site.
const NAME: usize = 60;
/// The numbers of these sites; callsites are numbered from 1 on.
const FIRST: u32 = 1 << 30;

/// Names of sites live as long as the program, and all captures share them, so that what they take has a bound.
static NAMES: Mutex<BTreeMap<String, &'static str>> = Mutex::new(BTreeMap::new());

/// The queries that were seen.
#[derive(Debug, Default)]
pub(super) struct Queries {
    sites: Vec<Arc<Site>>,
    by_name: BTreeMap<&'static str, SiteId>,
}

impl Queries {
    /// Returns the operation that an event is about; `None` if it does not say which, or how long it took.
    pub(super) fn operation(&mut self, event: &EventRecord<'_>) -> Option<Raw> {
        if event.site.target != QUERY_EVENTS {
            return None;
        }
        let parent = event.span?.0;
        let fields = event.fields;
        let elapsed = number(fields.get("elapsed_secs")?)?;
        let length = Nanos((elapsed * 1e9) as u64);
        let text = ["db.statement", "db.query.text"];
        let mut texts = text.iter().filter_map(|name| said(fields.get(name)?));
        // A short query is its own summary, and said once.
        let query = texts.next().or_else(|| said(fields.get("summary")?))?;
        let query = query_shape(query);
        let rows = ["rows_returned", "rows_affected"];
        let mut rows = rows.iter().filter_map(|name| fields.get(name));
        let (first, second) = (rows.next(), rows.next());
        let rows = first.filter(|rows| number(*rows) != Some(0.0)).or(second);
        let mut fields = vec![TreeField {
            name: "db.query.text",
            value: TreeValue::of(Value::Str {
                text: &query,
                cut: false,
            }),
        }];
        fields.extend(rows.map(|rows| TreeField {
            name: "rows",
            value: TreeValue::of(rows),
        }));
        Some(Raw {
            // Nothing is inside, and nobody asks for it by number.
            seq: u64::MAX,
            parent,
            kind: TreeKind::Plain,
            site: self.site_of(&query),
            thread: event.thread.index,
            start: event.at.saturating_sub(length),
            end: event.at,
            // Whether a thread worked for it meanwhile nobody says.
            busy: Nanos::ZERO,
            activation_count: 1,
            activations: Vec::new(),
            failed: event.level == Level::Error,
            unfinished: false,
            fields,
        })
    }

    pub(super) fn site(&self, id: SiteId) -> Option<&Arc<Site>> {
        let index = id.0.checked_sub(FIRST)?;
        self.sites.get(index as usize)
    }

    fn site_of(&mut self, query: &str) -> SiteId {
        let name = name_of(query);
        if let Some(&known) = self.by_name.get(name) {
            return known;
        }
        // There are no more of them than names.
        let id = SiteId(FIRST + u32::try_from(self.sites.len()).unwrap_or(0));
        let site = Site::new(id, name, QUERY_EVENTS, None, None);
        self.sites.push(Arc::new(site));
        self.by_name.insert(name, id);
        id
    }
}

/// Returns the name of a query's site.
fn name_of(query: &str) -> &'static str {
    let name = format!("query: {}", shortened(query, NAME));
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(&known) = names.get(&name) {
        return known;
    }
    if names.len() >= MOST {
        return "query: (other)";
    }
    let kept: &'static str = Box::leak(name.clone().into_boxed_str());
    names.insert(name, kept);
    kept
}

fn said(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Str { text, .. } => {
            let text = text.trim().trim_end_matches('\u{2026}').trim_end();
            Some(text).filter(|text| !text.is_empty())
        }
        _ => None,
    }
}

/// Returns a number that is neither negative nor none.
fn number(value: Value<'_>) -> Option<f64> {
    let number = match value {
        Value::F64(value) => value,
        Value::U64(value) => value as f64,
        Value::I64(value) => value as f64,
        _ => return None,
    };
    (number.is_finite() && number >= 0.0).then_some(number)
}
