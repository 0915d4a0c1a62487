//! A rich profile for the tests: an indexer with one hot function.

use std::sync::Arc;

use crate::model::{
    Bucket, Checked, Confidence, CriticalPath, Diagnosis, Distribution, Export, Failure, Finding,
    GpuDevice, GpuDeviceStats, GpuIdle, GpuKernelStats, GpuLostRanges, GpuNotice, GpuProfile,
    GpuQueue, GpuSource, GpuStats, GpuStreamStats, GpuTotals, Losses, Nanos, OnCpu, PathSite,
    PathStats, Point, Process, Profile, Series, Severity, Site, SiteId, SiteStats, Split, Stats,
    ThreadStats, Throughput, Unit,
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

pub(super) fn sync_stats(values: &[(u64, u64)], self_ms: u64) -> Stats {
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

pub(super) fn site(
    id: u32,
    name: &'static str,
    target: &'static str,
    file: &'static str,
    line: u32,
) -> Arc<Site> {
    Arc::new(Site::new(SiteId(id), name, target, Some(file), Some(line)))
}

/// An indexer: one hot function, a held span, async queries, two sites of one name, and a hostile one.
pub(super) fn rich() -> (Profile, Diagnosis) {
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
            memory_limit: None,
            open_files_limit: None,
            cpu: Some(Nanos(11_900 * MS)),
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
            run_queue: None,
            async_sites: 0,
        })
        .collect();
    profile.throughput = Throughput {
        per_second: 81.4,
        window: Nanos(1_000 * MS),
        per_window: vec![12, 80, 95, 101, 99, 97, 90, 60, 88, 92, 96, 85, 6],
        ..Throughput::default()
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
    profile.exports = vec![export()];
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

fn export() -> Export {
    Export {
        name: "otlp".to_owned(),
        endpoint: "http://localhost:4318".to_owned(),
        exported: 10_234,
        refused: 2,
        dropped: 512,
        spilled: 100,
        sampled_out: 90_001,
        exported_points: 480,
        last_error: Some("503 Service \u{1b}[31mUnavailable".to_owned()),
        ..Export::default()
    }
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
    hot.message = "`tokenise` spends 7.85 s in its own code, on a CPU or ready for one in 99 % of the samples: 61.2 % of the thread time. Removing all of it \
                   cannot beat 2.58x; halving it gives 1.44x."
        .to_owned();
    hot.recommendation =
        "Hoist work out of the loop, try a cheaper algorithm, or split the files over threads."
            .to_owned();
    hot.example = "let table = build_table(); // was rebuilt per item\nfor item in items {\n    use_table(&table, item);\n}".to_owned();
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
    evil.example = "#[tracing::instrument(skip_all)]\nfn parse(buf: &[u8]) -> Doc {".to_owned();
    Diagnosis {
        headline: "61.2 % of the thread time is `tokenise`'s own code; halving it makes the program 1.44x as fast."
            .to_owned(),
        findings: vec![hot, tail, evil],
        checked: vec![
            Checked::new("CTX101", "blocking-call-in-poll", "no poll blocks its worker"),
            Checked::new("CTX102", "cpu-heavy-poll", "no poll computes for long"),
        ],
        critical_path: Some(critical_path()),
        operations: None,
        targets: Vec::new(),
    }
}

fn critical_path() -> CriticalPath {
    let site = |site: &str, share: f64, saving: f64| PathSite {
        site: site.to_owned(),
        location: Some("src/search.rs:7".to_owned()),
        time: Nanos((share * 12.3e9) as u64),
        share,
        saving,
        saving_low: saving * 0.9,
        saving_high: saving * 1.1,
        saving_halved: saving / 2.0,
        saving_most: (share * 1.2).min(1.0),
    };
    CriticalPath {
        trees: 24,
        roots: 3_000,
        whole: Nanos(12_300_000_000),
        sites: vec![
            site("tokenise", 0.6, 0.55),
            site("\u{1b}[31mred", 0.2, 0.004),
            site("query", 0.08, 0.08),
            site("lookup", 0.04, 0.03),
            site("merge", 0.02, 0.0),
            site("log", 0.01, 0.0),
        ],
    }
}

/// The same program, with two devices of three at work.
pub(super) fn rich_with_gpu() -> (Profile, Diagnosis) {
    let (mut profile, diagnosis) = rich();
    let totals = |busy_ms: u64, kernels: u64| GpuTotals {
        busy: Nanos(busy_ms * MS),
        kernels,
        kernel_time: Nanos(busy_ms * MS * 9 / 10),
        copies: kernels / 10,
        copy_time: Nanos(busy_ms * MS / 5),
        to_device_bytes: kernels << 20,
        to_host_bytes: kernels << 14,
        pageable_copies: kernels / 40,
        pageable_bytes: kernels << 18,
        launches: kernels + kernels / 10,
        launch_time: Nanos(kernels * 4_200),
        syncs: kernels / 100,
        sync_time: Nanos(busy_ms * MS / 2),
        allocations: 12,
        allocated_bytes: 9 << 30,
        memory_time: Nanos(3 * MS),
        launch_delay: Some(distribution(&[(5_000, kernels), (90_000, kernels / 50)])),
        sources: vec![GpuSource::Cupti],
        ..GpuTotals::default()
    };
    let device = |ordinal, totals: GpuTotals, window_ms: u64| {
        let idle = GpuIdle {
            host: Nanos(window_ms * MS / 4),
            kernel: Nanos(window_ms * MS / 100),
            other: Nanos(window_ms * MS / 50),
        };
        let mut stream = GpuStreamStats::new(GpuQueue::new(ordinal, ordinal + 1, 7));
        stream.totals = totals.clone();
        stream.idle = idle;
        stream.max_queue_depth = Some(38);
        GpuDeviceStats {
            device: GpuDevice {
                ordinal,
                name: Some("NVIDIA H200\u{1b}[1m".to_owned()),
                uuid: Some("GPU-00000000-1111-2222-3333-444444444444".to_owned()),
                memory_bytes: Some(150_754_820_096),
                multiprocessors: Some(132),
            },
            totals,
            window: Nanos(window_ms * MS),
            idle,
            peak_bytes: (ordinal == 0).then_some(9 << 30),
            streams: vec![stream],
            ..GpuDeviceStats::default()
        }
    };
    let kernel = |name: &str, runs: u64, time_us: u64| {
        let mut row = GpuKernelStats::new(name.into());
        row.runs = runs;
        row.time = Nanos(time_us * 1_000);
        row.min = Nanos(time_us * 1_000 / runs / 2);
        row.max = Nanos(time_us * 1_000 / runs * 3);
        row
    };
    let mut reported = totals(1_500, 2_000);
    reported.sources = vec![GpuSource::Events, GpuSource::Reported];
    reported.ranges = 12;
    reported.range_time = Nanos(300 * MS);
    let idle = GpuDeviceStats {
        device: GpuDevice {
            ordinal: 2,
            ..GpuDevice::default()
        },
        ..GpuDeviceStats::default()
    };
    profile.gpu = Some(GpuProfile {
        notices: vec![GpuNotice::new(
            "memory and power",
            "libnvidia-ml.so.1 has no nvmlDeviceGetPowerUsage\u{7}; update the driver.",
        )],
        devices: vec![
            device(0, totals(6_000, 12_000), 9_000),
            device(1, reported, 8_000),
            idle,
        ],
        kernels: vec![
            kernel(
                "void gemm_f32_nn<128, 64, true>(float const*, float const*, float*)",
                6_000,
                4_100_000,
            ),
            kernel("softmax_rows", 3_000, 900_000),
            kernel("relu", 1_200, 500_000),
            kernel("layer_norm", 1_000, 400_000),
            kernel("\u{1b}]0;evil", 700, 300_000),
            kernel("add", 100, 20_000),
        ],
        outside: totals(20, 100),
        unattributed: 7,
        dropped_records: 1_000,
        dropped_calls: 1,
        unfinished: 2,
        unknown_calls: 3,
        lost_ranges: GpuLostRanges {
            captured: 4,
            exhausted: 5,
            failed: 6,
        },
    });
    let gpu = |total_ms, own_ms| {
        Some(Box::new(GpuStats {
            total: totals(total_ms, 5_000),
            own: totals(own_ms, 100),
        }))
    };
    profile.sites[0].stats.gpu = gpu(5_400, 400);
    profile.sites[4].stats.gpu = gpu(7_400, 0);
    profile.paths[0].stats.gpu = gpu(7_400, 0);
    profile.paths[1].stats.gpu = gpu(5_400, 400);
    (profile, diagnosis)
}
