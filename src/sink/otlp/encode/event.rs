//! Events inside a span.

use super::attributes::{Attributes, printed};
use super::protobuf::{bytes, fixed64, fixed64_field, message, sized_field, text};
use crate::model::{Level, OperationEvent, Value, WallAnchor};

const EVENT: u8 = sized_field(11);
const TIME: u8 = fixed64_field(1);
const NAME: u8 = sized_field(2);
const ATTRIBUTES: u8 = sized_field(3);

/// Viewers show names in a line; the whole of a longer message becomes an attribute.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Appends one event; returns what it says if it is an error.
pub(super) fn append<'a>(
    out: &mut Vec<u8>,
    attributes: &mut Attributes,
    anchor: WallAnchor,
    event: &OperationEvent<'a>,
) -> Option<Option<Value<'a>>> {
    let said = event.fields.get("message");
    let is_error = event.level == Level::Error;
    let error = event.fields.get("error").filter(|_| is_error);
    message(out, EVENT, |out| {
        fixed64(out, TIME, anchor.unix_ns_at(event.at));
        attributes.begin(ATTRIBUTES);
        let whole = match (error, said) {
            (Some(_), _) => {
                bytes(out, NAME, b"exception");
                false
            }
            (None, Some(Value::Str { text, .. })) => {
                let name = &text[..text.floor_char_boundary(MAX_NAME_BYTES)];
                bytes(out, NAME, name.as_bytes());
                name.len() == text.len()
            }
            (None, Some(value)) => {
                message(out, NAME, |out| text(out, value));
                true
            }
            (None, None) => {
                bytes(out, NAME, event.site.name.as_bytes());
                true
            }
        };
        for (key, value) in event.fields {
            // The name of an exception is fixed, so that its own `error` and `message` stand among the attributes.
            let skipped = (key == "message" && whole) || (key == "error" && error.is_some());
            if !skipped {
                attributes.field(out, key, value);
            }
        }
        if let Some(error) = error
            && !attributes.has(EXCEPTION_MESSAGE)
        {
            printed(out, ATTRIBUTES, EXCEPTION_MESSAGE, error);
        }
        attributes.own_text(out, "level", event.level.as_str());
        attributes.own_text(out, "target", event.site.target);
        if let Some(file) = event.site.file_in_package() {
            attributes.own_text(out, "code.file.path", file);
        }
        if let Some(line) = event.site.line {
            attributes.own(out, "code.line.number", Value::U64(line.into()));
        }
    });
    is_error.then(|| said.or(error))
}

const EXCEPTION_MESSAGE: &str = "exception.message";
