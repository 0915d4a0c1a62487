//! The header `baggage`: a list of `key=value;property`, for the program's own use.

use std::borrow::Cow;

const MAX_MEMBERS: usize = 180;
const MAX_BYTES: usize = 8192;

/// Returns the valid members as far as they fit; `None` if there are none.
pub(super) fn checked(list: &str) -> Option<String> {
    let mut kept = String::new();
    let members = list.split(',').map(trim);
    for member in members.filter(|member| is_member(member)).take(MAX_MEMBERS) {
        let separator = usize::from(!kept.is_empty());
        if kept.len() + separator + member.len() > MAX_BYTES {
            break;
        }
        if separator == 1 {
            kept.push(',');
        }
        kept.push_str(member);
    }
    (!kept.is_empty()).then_some(kept)
}

/// Iterates over keys and decoded values of a list that [`checked`] returned.
pub(super) fn entries(list: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    list.split(',').filter_map(|member| {
        let (key, value) = pair(member)?;
        Some((key, decoded(value)))
    })
}

fn pair(member: &str) -> Option<(&str, &str)> {
    let pair = member.split(';').next()?;
    let (key, value) = pair.split_once('=')?;
    Some((trim(key), trim(value)))
}

fn is_member(member: &str) -> bool {
    let mut properties = member.split(';').skip(1);
    pair(member).is_some_and(|(key, value)| is_token(key) && is_value(value))
        && properties.all(|property| match property.split_once('=') {
            Some((key, value)) => is_token(trim(key)) && is_value(trim(value)),
            None => is_token(trim(property)),
        })
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// What HTTP calls a token.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte))
}

/// Undoes the percent encoding; what is no UTF-8 becomes U+FFFD, a percent sign without two digits stays.
fn decoded(value: &str) -> Cow<'_, str> {
    if !value.contains('%') {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match after.split_first_chunk::<2>() {
            Some((digits, after)) if first == b'%' && digits.iter().all(u8::is_ascii_hexdigit) => {
                bytes.push(digit(digits[0]) << 4 | digit(digits[1]));
                rest = after;
            }
            _ => bytes.push(first),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => (hex | 0x20) - b'a' + 10,
    }
}
