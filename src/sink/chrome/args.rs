//! The arguments of one event: its fields with their types, and what the sink adds.

use crate::model::{FOLLOWS_FROM, Fields, Ids, Value};
use crate::sink::trace_events::json;

/// Set before an argument of ours where the program has a field of the same name.
const OWN: &str = "cortex.";

/// Writes `,"args":{..}`, no key twice. Kept between events for its memory.
#[derive(Default)]
pub(super) struct Args {
    /// The keys written so far and where each one begins in the buffer.
    keys: Vec<(&'static str, usize)>,
    /// Where `,"args":{` begins.
    start: usize,
}

impl Args {
    /// Starts the arguments of an event.
    #[inline]
    pub(super) fn open(&mut self, out: &mut Vec<u8>) {
        self.keys.clear();
        self.start = out.len();
        out.extend_from_slice(b",\"args\":{");
    }

    /// Appends the program's fields but for `except`; of a field that was recorded twice, the last value.
    pub(super) fn fields(
        &mut self,
        out: &mut Vec<u8>,
        fields: Fields<'_>,
        except: Option<&'static str>,
    ) {
        let mut follows = false;
        for (name, value) in fields {
            if name == FOLLOWS_FROM {
                follows = true;
            } else if Some(name) != except {
                self.replace(out, name);
                json::value(out, value);
                out.push(b',');
            }
        }
        if follows {
            self.follows_from(out, fields);
        }
    }

    /// Appends the ids under which a tracing backend has the span.
    pub(super) fn ids(&mut self, out: &mut Vec<u8>, ids: Option<Ids>) {
        if let Some(ids) = ids {
            self.own_text(out, "trace_id", &ids.trace.to_string());
            self.own_text(out, "span_id", &ids.span.to_string());
        }
    }

    /// Appends a whole number that the sink adds.
    pub(super) fn own_number(&mut self, out: &mut Vec<u8>, name: &'static str, value: u64) {
        self.own(out, name, Value::U64(value));
    }

    /// Appends a text that the sink adds.
    pub(super) fn own_text(&mut self, out: &mut Vec<u8>, name: &'static str, text: &str) {
        self.own(out, name, Value::Str { text, cut: false });
    }

    /// Appends a mark that the sink adds.
    pub(super) fn own_mark(&mut self, out: &mut Vec<u8>, name: &'static str) {
        self.own(out, name, Value::Bool(true));
    }

    /// Ends the arguments; none at all leave no trace.
    #[inline]
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        if out.last() == Some(&b',') {
            out.pop();
            out.push(b'}');
        } else {
            out.truncate(self.start);
        }
    }

    fn own(&mut self, out: &mut Vec<u8>, name: &'static str, value: Value<'_>) {
        out.push(b'"');
        if self.keys.iter().any(|&(key, _)| key == name) {
            out.extend_from_slice(OWN.as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        json::value(out, value);
        out.push(b',');
    }

    /// Every link counts, unlike with other fields, so they become a list.
    fn follows_from(&mut self, out: &mut Vec<u8>, fields: Fields<'_>) {
        self.replace(out, FOLLOWS_FROM);
        out.push(b'[');
        for (_, value) in fields.iter().filter(|(name, _)| *name == FOLLOWS_FROM) {
            json::value(out, value);
            out.push(b',');
        }
        out.pop();
        out.extend_from_slice(b"],");
    }

    /// Appends a key, and takes back an earlier value of it.
    fn replace(&mut self, out: &mut Vec<u8>, name: &'static str) {
        if let Some(at) = self.keys.iter().position(|&(key, _)| key == name) {
            let (_, start) = self.keys.remove(at);
            let end = self.keys.get(at).map_or(out.len(), |&(_, next)| next);
            out.drain(start..end);
            for (_, later) in &mut self.keys[at..] {
                *later -= end - start;
            }
        }
        self.keys.push((name, out.len()));
        json::string(out, name);
        out.push(b':');
    }
}
