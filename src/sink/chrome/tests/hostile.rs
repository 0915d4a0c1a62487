//! Whatever a program puts into names and fields, the file parses and the values come back.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Owned {
    Bool(bool),
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Str(String, bool),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Owned::Bool(value) => Value::Bool(*value),
            Owned::I64(value) => Value::I64(*value),
            Owned::U64(value) => Value::U64(*value),
            Owned::I128(value) => Value::I128(*value),
            Owned::U128(value) => Value::U128(*value),
            Owned::F64(value) => Value::F64(*value),
            Owned::Str(text, cut) => Value::Str { text, cut: *cut },
        }
    }

    /// What a reader must find.
    fn expected(&self) -> Json {
        let whole = |narrow: Option<i64>, text: String| narrow.map_or(Json::from(text), Json::from);
        match self {
            Owned::Bool(value) => Json::from(*value),
            Owned::I64(value) => Json::from(*value),
            Owned::U64(value) => whole(i64::try_from(*value).ok(), value.to_string()),
            Owned::I128(value) => whole(i64::try_from(*value).ok(), value.to_string()),
            Owned::U128(value) => whole(i64::try_from(*value).ok(), value.to_string()),
            Owned::F64(value) if value.is_nan() => Json::from("NaN"),
            Owned::F64(value) if *value == f64::INFINITY => Json::from("Infinity"),
            Owned::F64(value) if *value == f64::NEG_INFINITY => Json::from("-Infinity"),
            Owned::F64(value) => Json::from(*value),
            Owned::Str(text, false) => Json::from(text.as_str()),
            Owned::Str(text, true) => Json::from(format!("{text}\u{2026}")),
        }
    }
}

fn any_value() -> impl Strategy<Value = Owned> {
    prop_oneof![
        any::<bool>().prop_map(Owned::Bool),
        any::<i64>().prop_map(Owned::I64),
        any::<u64>().prop_map(Owned::U64),
        any::<i128>().prop_map(Owned::I128),
        any::<u128>().prop_map(Owned::U128),
        any::<i64>().prop_map(|narrow| Owned::I128(narrow.into())),
        prop_oneof![
            any::<f64>(),
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY)
        ]
        .prop_map(Owned::F64),
        (any_text(), any::<bool>()).prop_map(|(text, cut)| Owned::Str(text, cut)),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\x00-\\x1f\"\\\\\u{7f}\u{2028}\u{2029}\u{fffe}</>é]{0,40}",
        Just("</script><script>alert(1)</script>".to_owned()),
    ]
}

/// Sites live as long as the program; in a test that is a leak.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// `f64` values may differ in the last digit, because `serde_json` reads fast rather than exactly.
fn same(found: &Json, expected: &Json) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) if !(found - expected).is_nan() => {
            (found - expected).abs() <= expected.abs() * 1e-15
        }
        _ => found == expected,
    }
}

proptest! {
    #[test]
    fn any_name_and_any_value_come_back(
        name in any_text(),
        target in any_text(),
        renamed in proptest::option::of(any_text()),
        thread_name in any_text(),
        process_name in any_text(),
        keys in proptest::collection::hash_set(any_text(), 1..6),
        values in proptest::collection::vec((any::<proptest::sample::Index>(), any_value()), 0..12),
    ) {
        let keys: Vec<_> = keys.iter().map(|key| leak(&format!("k{key}"))).collect();
        let site = Site::new(SiteId(9), leak(&name), leak(&target), None, None)
            .with_fields(keys.iter().copied());
        let values: Vec<_> = values
            .iter()
            .map(|(key, value)| (key.index(keys.len()), value))
            .collect();
        let fields: Vec<_> = values.iter().map(|(key, value)| (*key as u8, value.value())).collect();
        let bytes = encode(&fields);
        let process = Process { name: Some(process_name.clone()), ..process() };
        let thread = thread(0, &thread_name);

        let out = Shared::default();
        let mut sink = ChromeSink::to_writer(out.clone(), &process, ANCHOR);
        for kind in [SpanKind::Whole, SpanKind::Async { busy: Nanos(1), activations: 2 }] {
            sink.spans(&[SpanRecord {
                name: renamed.as_deref(),
                fields: Fields::new(&site, &bytes),
                ..span(&site, &thread, kind, 5, 9)
            }]).unwrap();
        }
        sink.events(&[event(&site, &thread, 7, Fields::new(&site, &bytes))]).unwrap();
        finish(&mut sink);

        let events = array(&out.text());
        prop_assert_eq!(events[0]["args"]["name"].as_str(), Some(process_name.as_str()));
        prop_assert_eq!(events[1]["args"]["name"].as_str(), Some(thread_name.as_str()));
        let shown = renamed.as_ref().unwrap_or(&name);
        for (at, expected) in [(3, shown), (4, shown), (5, shown), (6, &name)] {
            prop_assert_eq!(events[at]["name"].as_str(), Some(expected.as_str()));
            prop_assert_eq!(events[at]["cat"].as_str(), Some(target.as_str()));
        }
        for (index, key) in keys.iter().enumerate() {
            let last = values.iter().rev().find(|(of, _)| *of == index);
            for at in [3, 4, 6] {
                match last {
                    Some((_, value)) => prop_assert!(
                        same(&events[at]["args"][*key], &value.expected()),
                        "{} instead of {:?}", events[at]["args"][*key], value
                    ),
                    None => prop_assert!(events[at]["args"].get(*key).is_none()),
                }
            }
        }
    }
}

#[test]
fn ten_thousand_sites_and_sites_beyond_memory_keep_their_names() {
    let main = thread(0, "main");
    let ids = (0..10_000).chain([65_535, 65_536, u32::MAX]);
    let sites: Vec<_> = ids.map(|id| site(id, leak(&format!("site{id}")))).collect();
    let events = written(|sink| {
        for _ in 0..2 {
            for site in &sites {
                sink.spans(&[span(site, &main, SpanKind::Whole, 1, 2)])
                    .unwrap();
            }
        }
    });
    assert_eq!(events.len(), 2 * sites.len());
    for (event, site) in events.iter().zip(sites.iter().cycle()) {
        assert_eq!(event["name"], site.name);
    }
}

#[test]
fn more_threads_than_are_remembered_keep_their_ids() {
    let site = site(1, "request");
    let events = written(|sink| {
        for index in 0..70_000 {
            let thread = Thread::new(index, Some(index + 1), None);
            sink.spans(&[span(&site, &thread, SpanKind::Whole, 1, 2)])
                .unwrap();
        }
    });
    assert_eq!(events.len(), 70_000);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["tid"], index + 1);
    }
}
