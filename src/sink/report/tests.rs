//! The report of one rich profile, as people and programs get it.

mod colour;
mod gpu;
mod operations;
mod targets;

use proptest::prelude::*;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::json::Document;
use super::sample::{rich, rich_with_gpu, site, sync_stats};
use super::*;
use crate::model::{Export, GpuNotice, GpuProfile, Losses, Nanos, PathStats, ThreadStats};

fn golden(name: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("CORTEX_BLESS").is_some() {
        std::fs::write(&path, actual).expect("the golden folder can be written");
    }
    let expected =
        std::fs::read_to_string(&path).expect("run with CORTEX_BLESS=1 to write the golden file");
    assert!(
        actual == expected,
        "{name} differs; compare, then run with CORTEX_BLESS=1\n{actual}"
    );
}

#[test]
fn the_text_report_reads_as_agreed() {
    let (profile, diagnosis) = rich();
    let wide = TextOptions::default();
    for (name, options) in [
        ("report_100.txt", wide),
        ("report_60.txt", wide.width(60)),
        ("report_colour.txt", wide.width(120).colour(true)),
        ("report_ascii.txt", wide.width(80).unicode(false)),
    ] {
        golden(name, &report_text(&profile, &diagnosis, &options));
    }
    let empty = report_text(&Profile::default(), &Diagnosis::default(), &wide);
    golden("report_empty.txt", &empty);
}

#[test]
fn the_json_report_reads_as_agreed() {
    let (profile, diagnosis) = rich();
    let pretty = serde_json::to_string_pretty(&Document::new(&profile, &diagnosis)).unwrap();
    golden("report.json", &(pretty.clone() + "\n"));

    let mut line = Vec::new();
    report_json(&profile, &diagnosis, &mut line).unwrap();
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    let parsed: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(parsed, serde_json::from_str::<Value>(&pretty).unwrap());
}

fn json(profile: &Profile, diagnosis: &Diagnosis) -> Value {
    serde_json::to_value(Document::new(profile, diagnosis)).unwrap()
}

#[test]
fn the_json_report_has_the_promised_keys() {
    let (profile, diagnosis) = rich();
    let json = json(&profile, &diagnosis);
    let has = |value: &Value, keys: &[&str]| {
        for key in keys {
            assert!(value.get(key).is_some(), "{key} is missing in {value}");
        }
    };
    assert_eq!(json["schema"], "tracing-cortex/1");
    has(
        &json,
        &[
            "wall_ns",
            "sites",
            "paths",
            "threads",
            "resources",
            "losses",
            "overhead",
            "findings",
        ],
    );
    let times = [
        "p50_ns",
        "p90_ns",
        "p95_ns",
        "p99_ns",
        "p999_ns",
        "min_ns",
        "max_ns",
        "mean_ns",
        "stddev_ns",
    ];
    for site in json["sites"].as_array().unwrap() {
        has(
            site,
            &[
                "name",
                "target",
                "file",
                "line",
                "calls",
                "spans",
                "activations",
                "busy_ns",
                "self_ns",
                "activation",
                "latency",
            ],
        );
        has(&site["activation"], &times);
        if !site["latency"].is_null() {
            has(&site["latency"], &times);
        }
    }
    assert!(json["sites"][0]["latency"].is_null());
    assert!(json["sites"][2]["latency"].is_object());
    for path in json["paths"].as_array().unwrap() {
        has(path, &["path", "calls", "busy_ns", "self_ns"]);
    }
    assert_eq!(
        json["paths"][2]["path"],
        serde_json::json!(["index", "tokenise", "parse"])
    );
    for finding in json["findings"].as_array().unwrap() {
        has(
            finding,
            &[
                "rule",
                "name",
                "severity",
                "site",
                "share",
                "gain",
                "evidence",
                "recommendation",
            ],
        );
        has(&finding["gain"], &["low", "likely", "bound"]);
    }
}

#[test]
fn numbers_that_are_not_finite_become_null() {
    let (profile, diagnosis) = rich();
    let json = json(&profile, &diagnosis);
    assert!(json["findings"][1]["evidence"]["p99_over_p50"].is_null());
    assert!(json["resources"][3]["mean"].is_null());
}

#[test]
fn text_and_json_say_the_same_numbers_in_the_same_order() {
    let (profile, diagnosis) = rich();
    let json = json(&profile, &diagnosis);
    let text = report_text(&profile, &diagnosis, &TextOptions::default().width(200));
    let table = text
        .split("SITES BY SELF TIME")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    let whole = json["split"]["thread_time_ns"].as_u64().unwrap();
    let sites = json["sites"].as_array().unwrap();
    for (row, site) in rows.iter().zip(sites) {
        let ns = |value: &Value| Nanos(value.as_u64().unwrap());
        let shown = if site["latency"].is_null() {
            &site["activation"]
        } else {
            &site["latency"]
        };
        let own = ns(&site["self_ns"]);
        let mut expected = vec![
            number::count(site["calls"].as_u64().unwrap()),
            number::count(site["errors"].as_u64().unwrap()),
            own.to_string(),
            format!("{:.1} %", own.0 as f64 / whole as f64 * 100.0),
            ns(&site["busy_ns"]).to_string(),
        ];
        let idle = site["idle_ns"].as_u64();
        expected.push(idle.map_or_else(|| "-".to_owned(), |idle| Nanos(idle).to_string()));
        expected.extend(
            ["p50_ns", "p95_ns", "p99_ns", "max_ns"].map(|key| ns(&shown[key]).to_string()),
        );
        assert_eq!(row[1..11], expected, "{}", site["name"]);
        let polls = site["latency"]
            .is_object()
            .then(|| site["activations"].as_u64());
        let polls = polls
            .flatten()
            .map_or_else(|| "-".to_owned(), number::count);
        assert_eq!(row[11], polls);
        let name = visible::visible(site["name"].as_str().unwrap()).into_owned();
        assert!(row[0].contains(&name), "{row:?}");
    }
    assert!(rows.len() > sites.len(), "the note on first calls follows");

    for finding in json["findings"].as_array().unwrap() {
        let recommendation = finding["recommendation"].as_str().unwrap();
        assert!(text.contains(recommendation), "{recommendation}");
    }
    let order = ["CTX001 hot", "CTX601 tail", "CTX003 unin"].map(|rule| text.find(rule).unwrap());
    assert!(order.is_sorted());
}

#[test]
fn the_shares_of_the_split_add_up_to_all() {
    let (profile, diagnosis) = rich();
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    let section = text
        .split("WHERE THE TIME WENT")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let percents = |line: &str| -> Vec<f64> {
        let words: Vec<&str> = line.split_whitespace().collect();
        words
            .windows(2)
            .filter(|pair| pair[1].starts_with('%'))
            .map(|pair| pair[0].parse().unwrap())
            .collect()
    };
    let lines: Vec<&str> = section.lines().skip(2).collect();
    let (states, legend) = lines.split_last().unwrap();
    let all: f64 = legend.iter().flat_map(|line| percents(line)).sum();
    assert!((all - 100.0).abs() < 1e-9, "{all}\n{section}");
    let all: f64 = percents(states).iter().sum();
    assert!((all - 100.0).abs() < 1e-9, "{all}\n{states}");
}

#[test]
fn hostile_names_reach_no_terminal() {
    let (profile, diagnosis) = rich_with_gpu();
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    for c in text.chars() {
        assert!(c == '\n' || !c.is_control(), "{c:?}");
        assert!(!matches!(c, '\u{202e}' | '\u{9b}'), "{c:?}");
    }
    assert!(text.contains("\\u{1b}[31mred\\n\\u{202e}evil\\u{7}"));
}

#[test]
fn sites_of_one_name_are_told_apart() {
    let (mut profile, diagnosis) = rich();
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.contains("json::parse") && text.contains("toml::parse"));
    for (row, line) in profile.sites.iter_mut().zip(1..) {
        row.site = site(line, "parse", "indexer", "src/main.rs", line);
    }
    let text = report_text(&profile, &diagnosis, &TextOptions::default().width(160));
    assert!(text.contains("parse (src/main.rs:1)") && text.contains("parse (src/main.rs:8)"));
}

#[test]
fn long_lists_are_bounded_and_say_what_is_left_out() {
    let (mut profile, diagnosis) = rich();
    let row = profile.sites[4].clone();
    profile.sites.extend(std::iter::repeat_n(row, 10_000));
    let thread = profile.threads[0].clone();
    profile.threads.extend(std::iter::repeat_n(thread, 500));
    // A recursion of depth 5,000, every level as heavy as the first.
    let last = profile.paths.len();
    for depth in 0..5_000 {
        let mut path = profile.paths[0].clone();
        path.depth = depth;
        path.parent = depth.checked_sub(1).map(|above| last + above as usize);
        profile.paths.push(path);
    }
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.lines().count() < 200, "{}", text.lines().count());
    assert!(text.contains("and 9,988 more sites ("));
    assert!(text.contains("and 490 more threads ("));
    assert!(text.contains("smaller paths ("));
}

/// The line on CPU time in no row, of a process that used `cpu_ms` and a second of the main thread.
fn cpu_elsewhere(cpu_ms: u64, change: impl FnOnce(&mut Profile)) -> Option<String> {
    let mut profile = Profile::default();
    profile.process.cpu = Some(Nanos(cpu_ms * 1_000_000));
    profile.threads.push(ThreadStats {
        name: "main".to_owned(),
        threads: 1,
        observed: Nanos(2_000_000_000),
        busy: Nanos(900_000_000),
        cpu: Some(Nanos(1_000_000_000)),
        ..ThreadStats::default()
    });
    change(&mut profile);
    let options = TextOptions::default().width(250);
    let text = report_text(&profile, &Diagnosis::default(), &options);
    let mut lines = text.lines();
    lines
        .find(|line| line.contains("without spans (a pool"))
        .map(str::to_owned)
}

#[test]
fn cpu_time_of_threads_without_spans_is_said_to_be_in_no_row() {
    assert_eq!(
        cpu_elsewhere(8_050, |_| ()).as_deref(),
        Some(
            "At least 7.00 s of CPU were used by threads without spans (a pool, a runtime, the allocator) or before a \
             thread's first span: no row above counts them."
        )
    );
    assert_eq!(cpu_elsewhere(1_000, |_| ()), None);
    assert!(cpu_elsewhere(1_200, |_| ()).is_some());
    assert_eq!(cpu_elsewhere(1_166, |_| ()), None, "a tenth or less");
    assert_eq!(
        cpu_elsewhere(8_050, |profile| profile.process.cpu = None),
        None,
        "nobody knows"
    );
    assert_eq!(
        cpu_elsewhere(100, |profile| {
            profile.threads[0].cpu = Some(Nanos::ZERO);
            profile.threads[0].observed = Nanos(50_000_000);
        }),
        None,
        "50 ms are no more than what looks at a thread miss"
    );
}

#[test]
fn cpu_time_that_a_row_may_have_is_not_said_to_be_elsewhere() {
    let unknown = |profile: &mut Profile| profile.threads[0].cpu = None;
    assert_eq!(
        cpu_elsewhere(2_000, unknown),
        None,
        "busy for 0.9 s, but it may have computed between spans"
    );
    let line = cpu_elsewhere(5_000, unknown).unwrap();
    assert!(line.starts_with("At least 3.00 s of CPU "), "{line}");

    let ended = |profile: &mut Profile| profile.threads[0].ended = true;
    assert_eq!(
        cpu_elsewhere(1_300, ended),
        None,
        "the last reading of a thread that has ended is old"
    );
    let line = cpu_elsewhere(5_000, ended).unwrap();
    assert!(line.starts_with("At least 3.70 s of CPU "), "{line}");

    assert_eq!(
        cpu_elsewhere(3_000, |profile| {
            profile.overhead.background_cpu = Some(Nanos(1_900_000_000));
        }),
        None,
        "the layer's own threads are in the cost"
    );
}

#[test]
fn branches_of_the_tree_show_who_called_whom() {
    let (mut profile, diagnosis) = rich();
    let path = |parent, depth, name, ms: u64| {
        let stats = sync_stats(&[(ms * 1_000_000, 1)], ms);
        PathStats::new(parent, depth, site(100, name, "", "a.rs", 1), stats)
    };
    profile.paths = vec![
        path(None, 0, "root", 9_000),
        path(Some(0), 1, "left", 5_000),
        path(Some(1), 2, "deep", 4_000),
        path(Some(1), 2, "tiny", 1),
        path(Some(0), 1, "right", 3_000),
        path(Some(4), 2, "leaf", 2_000),
    ];
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    let tree = text.split("CALL TREE").nth(1).unwrap();
    let expected = [
        "root  ",
        "├ left  ",
        "│ └ deep  ",
        "└ right  ",
        "  └ leaf  ",
    ];
    for (line, expected) in tree.lines().skip(2).zip(expected) {
        assert!(line.starts_with(expected), "{tree}");
    }
    assert!(tree.contains("… 1 smaller path ("));
}

#[test]
fn an_async_root_is_shown_with_the_busy_tasks_below_it() {
    let (mut profile, diagnosis) = rich();
    let path = |parent, depth, name, us: u64| {
        let stats = sync_stats(&[(us * 1_000, 1)], us / 1_000);
        PathStats::new(parent, depth, site(100, name, "", "a.rs", 1), stats)
    };
    profile.paths = vec![
        path(None, 0, "serve", 10),
        path(Some(0), 1, "client", 20),
        path(Some(1), 2, "search", 5_000_000),
        path(None, 0, "flush", 10),
    ];
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    let tree = text.split("CALL TREE").nth(1).unwrap();
    for (line, expected) in tree.lines().skip(2).zip([
        "serve  ",
        "└ client  ",
        "  └ search  ",
        "… 1 smaller path (",
    ]) {
        assert!(line.starts_with(expected), "{tree}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_of_either_sink() {
    use crate::sink::{Sink, SinkError};

    let (profile, diagnosis) = rich();
    let deadline = std::time::Duration::from_secs(1);
    let full = "/dev/full";
    let results = [
        JsonSink::create(full)
            .unwrap()
            .finish(&profile, &diagnosis, deadline),
        TextSink::file(full)
            .unwrap()
            .finish(&profile, &diagnosis, deadline),
    ];
    for result in results {
        assert!(matches!(result, Err(SinkError::File { .. })), "{result:?}");
    }
}

#[test]
fn the_json_sink_writes_what_report_json_writes() {
    use crate::sink::Sink;

    let (profile, diagnosis) = rich();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let mut sink = JsonSink::create(&path).unwrap();
    sink.finish(&profile, &diagnosis, std::time::Duration::from_secs(1))
        .unwrap();
    let mut expected = Vec::new();
    report_json(&profile, &diagnosis, &mut expected).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}

#[test]
fn fields_that_panicked_and_latencies_that_begin_late_are_said_in_words() {
    let (mut profile, diagnosis) = rich();
    profile.losses = Losses {
        panicked_fields: 2,
        late_latencies: 1,
        ..Losses::default()
    };
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.contains("2 field values left out because their Debug implementation panicked."));
    assert!(text.contains("1 async span whose latency counts from the first poll"));
    assert!(!text.contains("Nothing was lost."));
}

#[test]
fn a_ceiling_that_says_nothing_and_a_likely_gain_that_says_the_same_are_left_out() {
    let (profile, mut diagnosis) = rich();
    let gain = &mut diagnosis.findings[0].gain;
    (gain.low, gain.likely, gain.bound) = (Some(1.997), Some(1.997), Some(531.0));
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.contains("Gain     at least 1.99x as fast\n"), "{text}");
    diagnosis.findings[0].gain.bound = Some(2.331);
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.contains("at least 1.99x, at most 2.34x as fast\n"));
}

#[test]
fn nothing_lost_is_said_in_words() {
    let (mut profile, diagnosis) = rich();
    profile.losses = Losses::default();
    profile.exports.clear();
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.contains("Nothing was lost."));
    assert!(!text.contains("dropped"));
}

#[test]
fn an_export_says_what_became_of_its_spans_and_counts_as_a_loss_where_some_did_not_arrive() {
    let (mut profile, diagnosis) = rich();
    profile.losses = Losses::default();
    let mut export = Export {
        name: "otlp".to_owned(),
        endpoint: "http://tempo:4318".to_owned(),
        exported: 1,
        adopted: 3,
        ..Export::default()
    };
    profile.exports = vec![export.clone()];
    let text = report_text(&profile, &diagnosis, &TextOptions::default().width(200));
    assert!(text.contains("Nothing was lost."));
    let line = "otlp to http://tempo:4318: 1 span exported, 0 refused, 0 dropped, 3 left to the program's own exporter.\n";
    assert!(text.contains(line), "{text}");
    export.lost_points = 1;
    export.last_points_error = Some("too many".to_owned());
    export.last_warning = Some("old".to_owned());
    profile.exports = vec![export];
    let text = report_text(&profile, &diagnosis, &TextOptions::default().width(200));
    assert!(!text.contains("Nothing was lost."));
    assert!(
        text.contains(
            "exporter; 0 metric points exported, 1 lost. The last error of metrics: too many. The last warning: old.\n"
        ),
        "{text}"
    );
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_line_is_wider_than_the_page(
        width in 60_usize..200,
        names in prop::collection::vec("\\PC{0,40}|[文👩‍💻\u{301}\u{fe0f}\u{200d}a1🇩🇪ﷺ]{0,60}|.{0,200}", 9),
        unicode: bool,
    ) {
        let (mut profile, mut diagnosis) = rich_with_gpu();
        if let Some(gpu) = &mut profile.gpu {
            gpu.kernels[0].name = names[7].as_str().into();
            gpu.devices[0].device.name = Some(names[6].clone());
        }
        for (row, name) in profile.sites.iter_mut().zip(&names) {
            row.site = site(row.site.id.0, leak(name.clone()), leak(names[8].clone()), "a.rs", 1);
        }
        for (path, name) in profile.paths.iter_mut().zip(&names) {
            path.site = site(1, leak(name.clone()), "a", "a.rs", 1);
        }
        for (finding, name) in diagnosis.findings.iter_mut().zip(&names) {
            finding.site = name.clone();
            finding.message = format!("`{name}` is slow");
            finding.location = Some(name.clone());
        }
        profile.threads[0].name = names[8].clone();
        profile.resources[0].name = names[8].clone();
        profile.process.name = Some(names[8].clone());
        profile.losses.failures[0].message = names[8].clone();
        let options = TextOptions::default().width(width).unicode(unicode);
        let text = report_text(&profile, &diagnosis, &options);
        for line in text.lines() {
            prop_assert!(line.width() <= width, "{} > {width}: {line:?}", line.width());
        }
    }
}
