//! The header `tracestate`: a list of `key=value`, one for each tracing system that the trace went through.

const MAX_MEMBERS: usize = 32;
/// What everyone has to pass on; more is not kept.
const MAX_BYTES: usize = 512;
/// Members over this length are the first to go.
const LONG_MEMBER: usize = 128;

/// Returns the list without blanks, repeated keys and what is too long; `None` if it is empty or not valid.
pub(super) fn checked(list: &str) -> Option<String> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    for member in list.split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || members.len() == MAX_MEMBERS {
            return None;
        }
        // The first is the most recent.
        if members.iter().all(|(known, _)| *known != key) {
            members.push((key, value));
        }
    }
    shorten(&mut members);
    let members: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    (!members.is_empty()).then(|| members.join(","))
}

fn shorten(members: &mut Vec<(&str, &str)>) {
    let length = |member: &(&str, &str)| member.0.len() + 1 + member.1.len();
    while members
        .iter()
        .map(|member| length(member) + 1)
        .sum::<usize>()
        > MAX_BYTES + 1
    {
        let long = members
            .iter()
            .rposition(|member| length(member) > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len() - 1));
    }
}

fn is_key(key: &str) -> bool {
    let starts = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let follows = |byte: u8| starts(byte) || b"_-*/@".contains(&byte);
    let bytes = key.as_bytes();
    bytes.len() <= 256
        && bytes.first().is_some_and(|&byte| starts(byte))
        && key.bytes().all(follows)
}

/// Blanks at the end are cut off before.
fn is_value(value: &str) -> bool {
    let allowed = |byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(allowed)
}
