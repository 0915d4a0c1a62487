//! Names and values that a careless writer would trip over.

use std::sync::OnceLock;

use serde_json::json;
use tracing::field::FieldSet;
use tracing::subscriber::Interest;
use tracing::{Callsite, Level, Metadata, Span};
use tracing_cortex::CortexLayer;

use crate::support::{bars, json, site, within};

/// A callsite that is made while the program runs.
#[derive(Default)]
struct MadeSite {
    metadata: OnceLock<Metadata<'static>>,
}

impl Callsite for MadeSite {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.metadata
            .get()
            .expect("set before anybody knows the site")
    }
}

/// Makes a callsite with this name.
pub(crate) fn new_site(name: &'static str) -> &'static Metadata<'static> {
    let made: &'static MadeSite = Box::leak(Box::default());
    let fields = FieldSet::new(&[], tracing::callsite::Identifier(made));
    made.metadata.get_or_init(|| {
        let kind = tracing::metadata::Kind::SPAN;
        Metadata::new(name, "made", Level::INFO, None, None, None, fields, kind)
    })
}

/// Returns a span of a made callsite.
pub(crate) fn span_of(site: &'static Metadata<'static>) -> Span {
    Span::new(site, &site.fields().value_set(&[]))
}

#[test]
fn values_of_any_kind_become_valid_json_of_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let builder = CortexLayer::builder().no_resources().chrome(&trace);
    let (layer, guard) = builder.build().unwrap();
    let nasty = "\"quoted\" \\ \n\r\t\u{0}\u{1b}[31m\u{7f}\u{2028} \u{202e}rtl \u{1f980}";
    within(layer, || {
        let span = tracing::info_span!(
            "work",
            nasty,
            printed = ?nasty,
            nan = f64::NAN,
            infinite = f64::INFINITY,
            below = f64::NEG_INFINITY,
            tenth = 0.1,
            smallest = i64::MIN,
            large = u64::MAX,
            larger = u128::MAX,
            lowest = i128::MIN,
            small = 5_u128,
            yes = true,
            empty = "",
        );
        span.in_scope(|| tracing::info!(nasty, nan = f64::NAN, "{nasty}"));
    });
    guard.finish().unwrap();
    let arguments = &bars(&trace, "work")[0]["args"];
    let expected = json!({
        "nasty": nasty,
        "printed": format!("{nasty:?}"),
        "nan": "NaN",
        "infinite": "Infinity",
        "below": "-Infinity",
        "tenth": 0.1,
        "smallest": i64::MIN,
        // Beyond what viewers can hold as a number.
        "large": u64::MAX.to_string(),
        "larger": u128::MAX.to_string(),
        "lowest": i128::MIN.to_string(),
        "small": 5,
        "yes": true,
        "empty": "",
    });
    assert_eq!(arguments, &expected);
    let events = json(&trace);
    let events = events["traceEvents"].as_array().unwrap();
    let event = events.iter().find(|event| event["ph"] == "i").unwrap();
    assert_eq!(event["name"], nasty);
    assert_eq!(event["args"]["nasty"], nasty);
}

#[test]
fn long_strings_are_cut_at_a_character_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let builder = CortexLayer::builder().no_resources().chrome(&trace);
    let (layer, guard) = builder.max_field_bytes(1000).build().unwrap();
    // Three bytes each, so that the limit falls into the middle of one.
    let long = "\u{20ac}".repeat(350_000);
    within(layer, || {
        for _ in 0..3 {
            tracing::info_span!("work", long, printed = ?long).in_scope(|| ());
        }
    });
    let summary = guard.finish().unwrap();
    assert_eq!(summary.profile().losses.cut_strings, 6);
    for bar in bars(&trace, "work") {
        let expected = format!("{}\u{2026}", "\u{20ac}".repeat(333));
        assert_eq!(bar["args"]["long"], expected);
        let printed = bar["args"]["printed"].as_str().unwrap();
        assert!(
            printed.starts_with("\"\u{20ac}") && printed.len() <= 1003,
            "{}",
            printed.len()
        );
    }
    assert!(trace.metadata().unwrap().len() < 20_000);
}

#[test]
fn a_span_whose_fields_are_recorded_for_ever_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let builder = CortexLayer::builder().no_resources().chrome(&trace);
    let (layer, guard) = builder.build().unwrap();
    within(layer, || {
        let span = tracing::info_span!("work", text = tracing::field::Empty);
        (0..1_000).for_each(|_| {
            span.record("text", "x".repeat(1000));
        });
        span.in_scope(|| ());
    });
    let summary = guard.finish().unwrap();
    assert!(summary.profile().losses.cut_strings > 900);
    assert_eq!(bars(&trace, "work")[0]["args"]["text"], "x".repeat(1000));
}

#[test]
fn span_names_of_any_unicode_reach_every_output() {
    let names = [
        "say \"hi\"",
        "back\\slash",
        "two\nlines",
        "tab\tbell\u{7}nul\u{0}escape\u{1b}[31m",
        "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{202e}override",
        "\u{1f980}\u{200d}\u{1f525}",
        "e\u{301}\u{323}",
        "\u{2028}\u{2029}\u{feff}",
        "\u{ffff}\u{10ffff}",
        "",
        "</script><b>",
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .chrome(file("trace.json"))
        .report_json(file("report.json"))
        .report_text(file("report.txt"))
        .build()
        .unwrap();
    within(layer, || {
        for name in names {
            span_of(new_site(name)).in_scope(|| ());
        }
    });
    let summary = guard.finish().unwrap();
    let report = json(&file("report.json"));
    let sites = report["sites"].as_array().unwrap();
    for name in names {
        assert_eq!(site(summary.profile(), name).stats.calls, 1, "{name:?}");
        assert_eq!(bars(&file("trace.json"), name).len(), 1, "{name:?}");
        assert!(sites.iter().any(|site| site["name"] == name), "{name:?}");
    }
    let text = std::fs::read_to_string(file("report.txt")).unwrap();
    let raw = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(raw, None, "a terminal would obey it");
}
