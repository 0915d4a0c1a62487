//! Kind and status of a span, from the fields that tracing users know for it.

use super::protobuf::{self, message, number, sized_field, varint_field};
use crate::model::Value;

const STATUS: u8 = sized_field(15);
const MESSAGE: u8 = sized_field(2);
const CODE: u8 = varint_field(3);
const OK: u64 = 1;
const ERROR: u64 = 2;

/// Returns the number of a `SpanKind`, in any case.
pub(super) fn kind(value: Value<'_>) -> Option<u8> {
    let Value::Str { text, .. } = value else {
        return None;
    };
    let names = ["internal", "server", "client", "producer", "consumer"];
    let at = names
        .iter()
        .position(|name| text.eq_ignore_ascii_case(name))?;
    Some(at as u8 + 1)
}

/// What the fields and events of an operation say of how it went.
#[derive(Debug, Default)]
pub(super) struct Status<'a> {
    /// `otel.status_code`: whether it is `error`.
    pub(super) declared_error: Option<bool>,
    /// `otel.status_description`.
    pub(super) description: Option<Value<'a>>,
    /// The field `error`.
    pub(super) error: Option<Value<'a>>,
    /// An event of level ERROR, by its message; the last one.
    pub(super) event: Option<Option<Value<'a>>>,
}

impl<'a> Status<'a> {
    /// Takes `otel.status_code`; returns whether it was understood.
    pub(super) fn declare(&mut self, value: Value<'_>) -> bool {
        let Value::Str { text, .. } = value else {
            return false;
        };
        let declared = if text.eq_ignore_ascii_case("ok") {
            false
        } else if text.eq_ignore_ascii_case("error") {
            true
        } else {
            return false;
        };
        self.declared_error = Some(declared);
        true
    }

    /// The program's own word counts more than what we conclude.
    pub(super) fn is_error(&self) -> bool {
        let concluded =
            || self.event.is_some() || self.error.is_some_and(|value| value != Value::Bool(false));
        self.declared_error.unwrap_or_else(concluded)
    }

    #[inline]
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        if self.is_error() {
            self.append_error(out);
        } else if self.declared_error.is_some() {
            message(out, STATUS, |out| number(out, CODE, OK));
        }
    }

    fn append_error(&self, out: &mut Vec<u8>) {
        let text = self
            .description
            .or(self.error.filter(|value| !matches!(value, Value::Bool(_))))
            .or(self.event.flatten());
        message(out, STATUS, |out| {
            if let Some(text) = text {
                message(out, MESSAGE, |out| protobuf::text(out, text));
            }
            number(out, CODE, ERROR);
        });
    }
}
