//! The report of one rich profile, as people and programs get it.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::json::Document;
use super::*;
use crate::model::{
    Bucket, Confidence, Distribution, Failure, Finding, Losses, Nanos, OnCpu, PathStats, Point,
    Process, Series, Severity, Site, SiteId, SiteStats, Split, Stats, ThreadStats, Throughput,
    Unit,
};

const MS: u64 = 1_000_000;

fn distribution(values: &[(u64, u64)]) -> Distribution {
    let buckets: Vec<Bucket> = values
        .iter()
        .map(|&(value, count)| Bucket {
            value: Nanos(value),
            count,
        })
        .collect();
    let sum = values.iter().map(|&(value, count)| value * count).sum();
    let min = values.first().map_or(0, |&(value, _)| value);
    let max = values.last().map_or(0, |&(value, _)| value);
    Distribution::from_buckets(buckets, Nanos(sum), Nanos(min), Nanos(max), 0)
}

fn sync_stats(values: &[(u64, u64)], self_ms: u64) -> Stats {
    let activation = distribution(values);
    Stats {
        calls: activation.count,
        spans: activation.count,
        activations: activation.count,
        busy: activation.sum,
        self_time: Nanos(self_ms * MS),
        overhead: Nanos(activation.count * 20),
        activation,
        ..Stats::default()
    }
}

fn async_stats(polls: &[(u64, u64)], latency: &[(u64, u64)], self_ms: u64) -> Stats {
    let latency = distribution(latency);
    let stats = sync_stats(polls, self_ms);
    Stats {
        calls: latency.count,
        spans: latency.count,
        idle: Some(latency.sum.saturating_sub(stats.busy)),
        latency: Some(latency),
        ..stats
    }
}

fn site(
    id: u32,
    name: &'static str,
    target: &'static str,
    file: &'static str,
    line: u32,
) -> Arc<Site> {
    Arc::new(Site::new(SiteId(id), name, target, Some(file), Some(line)))
}

/// An indexer: one hot function, a held span, async queries, two sites of one name, and a hostile one.
fn rich() -> (Profile, Diagnosis) {
    let tokenise = site(1, "tokenise", "indexer::text", "src/text.rs", 42);
    let read = site(2, "read_file", "indexer::walk", "src/walk.rs", 17);
    let query = site(3, "query", "indexer::search", "src/search.rs", 88);
    let parse_json = site(4, "parse", "indexer::json", "src/json.rs", 5);
    let parse_toml = site(5, "parse", "indexer::toml", "src/toml.rs", 9);
    let hostile = site(
        6,
        "\u{1b}[31mred\n\u{202e}evil\u{7}",
        "indexer",
        "src/evil.rs",
        1,
    );
    let layer = site(7, "layer", "model", "src/model.rs", 30);
    let index = site(8, "index", "indexer", "src/main.rs", 12);

    let tokenise_stats = Stats {
        first: Some(Nanos(310 * MS)),
        on_cpu: Some(OnCpu::new(400, 396)),
        ..sync_stats(&[(5 * MS, 1_100), (8 * MS, 90), (310 * MS, 10)], 7_850)
    };
    let read_stats = Stats {
        errors: 3,
        ..sync_stats(&[(1_200_000, 1_190), (90 * MS, 10)], 2_328)
    };
    let query_stats = async_stats(
        &[(40_000, 3_000), (2 * MS, 100)],
        &[(20 * MS, 900), (180 * MS, 100)],
        320,
    );
    let held_stats = Stats {
        spans: 4,
        ..sync_stats(&[(3 * MS, 40)], 120)
    };
    let index_stats = sync_stats(&[(11_000 * MS, 1)], 96);
    let rows = [
        (tokenise.clone(), tokenise_stats.clone()),
        (read.clone(), read_stats.clone()),
        (query.clone(), query_stats.clone()),
        (layer.clone(), held_stats.clone()),
        (index.clone(), index_stats.clone()),
        (parse_json.clone(), sync_stats(&[(7_000, 1_200)], 8)),
        (parse_toml, sync_stats(&[(5_000, 1_000)], 5)),
        (hostile.clone(), sync_stats(&[(900, 2)], 0)),
    ];
    let mut profile = Profile {
        wall: Nanos(12_300 * MS),
        process: Process {
            name: Some("indexer".to_owned()),
            pid: 4242,
            cores: Some(8),
        },
        ..Profile::default()
    };
    profile.started.unix_ns = 1_763_700_000_000_000_000;
    profile.sites = rows
        .into_iter()
        .map(|(site, stats)| {
            let mut row = SiteStats::new(site, stats);
            row.threads = 2;
            row.per_second = row.stats.calls as f64 / 12.3;
            row
        })
        .collect();
    profile.paths = vec![
        PathStats::new(None, 0, index, index_stats),
        PathStats::new(Some(0), 1, tokenise, tokenise_stats),
        PathStats::new(Some(1), 2, parse_json, sync_stats(&[(7_000, 1_200)], 8)),
        PathStats::new(Some(0), 1, read, read_stats),
        PathStats::new(Some(0), 1, hostile, sync_stats(&[(900, 2)], 0)),
        PathStats::new(None, 0, query, query_stats),
        PathStats::new(Some(5), 1, layer, held_stats),
    ];
    let own: Nanos = profile.sites.iter().map(|row| row.stats.self_time).sum();
    let overhead: Nanos = profile.sites.iter().map(|row| row.stats.overhead).sum();
    let busy = own.saturating_add(overhead);
    profile.split = Split {
        thread_time: busy.saturating_add(Nanos(2_100 * MS)),
        busy,
        uncovered: Nanos(2_100 * MS),
        waiting: Some(Nanos(1_900 * MS)),
    };
    profile.threads = [("main", 1, 12_300, 11_004), ("worker-\u{1b}0", 7, 561, 0)]
        .into_iter()
        .map(|(name, tid, observed, busy)| ThreadStats {
            name: name.to_owned(),
            tid: Some(4_241 + tid),
            threads: 1,
            ended: tid > 1,
            observed: Nanos(observed * MS),
            busy: Nanos(busy * MS),
            idle: Nanos((observed - busy) * MS),
            activations: 100,
            cpu: (tid == 1).then_some(Nanos(9_100 * MS)),
            async_sites: 0,
        })
        .collect();
    profile.throughput = Throughput {
        per_second: 81.4,
        window: Nanos(1_000 * MS),
        per_window: vec![12, 80, 95, 101, 99, 97, 90, 60, 88, 92, 96, 85, 6],
    };
    profile.resources = vec![
        series(
            "process.rss",
            Unit::Bytes,
            &[40e6, 95e6, 120e6, 118e6, 121e6],
        ),
        series(
            "process.cpu",
            Unit::Percent,
            &[20.0, 96.0, 101.5, 99.0, 40.0],
        ),
        series(
            "process.disk.read",
            Unit::BytesPerSecond,
            &[8e6, 2e6, 0.0, 0.0, 0.0],
        ),
        series(
            "queue\u{1b}]0;depth",
            Unit::Count,
            &[0.0, 3.0, 12.0, f64::NAN, 1.0],
        ),
    ];
    profile.losses = Losses {
        dropped_spans: 1_234,
        open_spans: 1,
        failures: vec![Failure::new("chrome", "cannot write trace.json\u{1b}[2J")],
        ..Losses::default()
    };
    profile.overhead.span_ns = 35.2;
    profile.overhead.activation_ns = 21.0;
    profile.overhead.total = Nanos(210_000);
    profile.overhead.share_of_cpu = Some(0.004);
    profile.overhead.background_cpu = Some(Nanos(12 * MS));
    profile.overhead.memory_bytes = 2_200_000;
    (profile, diagnosis())
}

fn series(name: &str, unit: Unit, values: &[f64]) -> Series {
    let mut series = Series::new(name, unit);
    series.samples = values.len() as u64;
    series.mean = values.iter().sum::<f64>() / values.len() as f64;
    series.min = values.iter().copied().fold(f64::INFINITY, f64::min);
    series.max = values.iter().copied().fold(0.0, f64::max);
    series.points = values
        .iter()
        .enumerate()
        .map(|(at, &value)| Point {
            at: Nanos(at as u64 * 250 * MS),
            samples: 1,
            mean: value,
            min: value,
            max: value,
        })
        .collect();
    series
}

fn diagnosis() -> Diagnosis {
    let mut hot = Finding::new("CTX001", "hot-self-time", "tokenise");
    hot.severity = Severity::Critical;
    hot.confidence = Confidence::High;
    hot.location = Some("src/text.rs:42".to_owned());
    hot.share = Some(0.612);
    hot.gain.low = Some(1.2);
    hot.gain.likely = Some(1.441);
    hot.gain.bound = Some(2.577);
    hot.evidence.insert("self_ns", 7.85e9);
    hot.evidence.insert("share", 0.612);
    hot.evidence.insert("calls", 1_200.0);
    hot.message = "`tokenise` spends 7.85 s of its own CPU time: 61.2 % of the thread time. Removing all of it \
                   cannot beat 2.58x; halving it gives 1.44x."
        .to_owned();
    hot.recommendation =
        "Hoist work out of the loop, try a cheaper algorithm, or split the files over threads."
            .to_owned();
    hot.example = "let table = build_table(); // was rebuilt per item\nfor item in items {\n    use_table(&table, item);\n}";
    let mut tail = Finding::new("CTX601", "tail-latency", "query");
    tail.severity = Severity::Low;
    tail.gain.bound = Some(1.06);
    tail.evidence.insert("p99_ns", 1.8e8);
    tail.evidence.insert("p99_over_p50", f64::NAN);
    tail.message = "1 in 100 `query` calls takes 180 ms, 9.0x the median.".to_owned();
    tail.recommendation = "Find what the slow calls share; hedge idempotent ones.".to_owned();
    let mut evil = Finding::new(
        "CTX003",
        "uninstrumented-time",
        "\u{1b}[31mred\n\u{202e}evil\u{7}",
    );
    evil.message = "`\u{1b}[31mred` has \u{9b}31m no children.".to_owned();
    evil.recommendation = "Add #[instrument] to the functions it calls.".to_owned();
    evil.example = "#[tracing::instrument(skip_all)]\nfn parse(buf: &[u8]) -> Doc {";
    Diagnosis {
        headline: "61.2 % of the thread time is `tokenise`'s own code; halving it makes the program 1.44x as fast."
            .to_owned(),
        findings: vec![hot, tail, evil],
        checked: vec!["CTX002", "CTX101", "CTX102", "CTX603"],
    }
}

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
    let (profile, diagnosis) = rich();
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

#[test]
fn nothing_lost_is_said_in_words() {
    let (mut profile, diagnosis) = rich();
    profile.losses = Losses::default();
    let text = report_text(&profile, &diagnosis, &TextOptions::default());
    assert!(text.contains("Nothing was lost."));
    assert!(!text.contains("dropped"));
}

#[test]
fn colour_follows_the_terminal_and_the_environment() {
    let colour = |terminal: bool, set: &[(&str, &str)]| {
        TextOptions::from_environment(None, terminal, |name| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    };
    assert!(colour(true, &[]).colour);
    assert!(!colour(false, &[]).colour);
    assert!(!colour(true, &[("NO_COLOR", "1")]).colour);
    assert!(colour(true, &[("NO_COLOR", "")]).colour);
    assert!(colour(false, &[("CLICOLOR_FORCE", "1")]).colour);
    assert!(!colour(false, &[("CLICOLOR_FORCE", "0")]).colour);
    assert!(!colour(true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]).colour);
    assert!(!colour(true, &[("TERM", "dumb")]).colour);
    assert!(colour(true, &[("LANG", "de_DE.UTF-8")]).unicode);
    assert!(!colour(true, &[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]).unicode);
    assert_eq!(colour(false, &[]).width, 100);
}

#[test]
fn colour_changes_nothing_but_colour() {
    let (profile, diagnosis) = rich();
    let plain = report_text(&profile, &diagnosis, &TextOptions::default());
    let coloured = report_text(&profile, &diagnosis, &TextOptions::default().colour(true));
    assert!(!plain.contains('\u{1b}'));
    assert!(coloured.contains('\u{1b}'));
    let mut stripped = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        stripped.push_str(before);
        rest = after.split_once('m').expect("an escape sequence ends").1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain);
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
        let (mut profile, mut diagnosis) = rich();
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
