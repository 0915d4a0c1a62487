//! Under which name, unit and instrument each resource series is sent.
//!
//! Where OpenTelemetry's semantic conventions have a metric for what a series measures, it has their name, and utilisations
//! are ratios instead of per cent. The series of context switches, page faults, storage and network traffic are rates,
//! for which the conventions have counters only; a counter made up from rates would not be one, so they are gauges of
//! this crate with the attributes of the convention.

use super::gpu;
use crate::model::Unit;

/// How readings of one series are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Convention<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'static str,
    pub(super) description: &'static str,
    pub(super) instrument: Instrument,
    /// What a reading is multiplied with.
    pub(super) factor: f64,
    pub(super) attribute: Option<(&'static str, &'static str)>,
    /// What names the GPU that the series is of, such as `gpu.0`.
    pub(super) device: Option<&'a str>,
}

/// What kind of OTLP metric the readings become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Instrument {
    Gauge,
    /// A sum that only grows. The readings are what it is since the start.
    Counter,
    /// A sum that may fall.
    UpDownCounter,
}

use Instrument::{Gauge, UpDownCounter};

type Row = (&'static str, Unit, Convention<'static>);

/// Every series of `src/resources` but those of GPUs.
const TABLE: &[Row] = &[
    (
        "process.cpu",
        Unit::Percent,
        row(
            "process.cpu.utilization",
            "1",
            Gauge,
            "CPU time of the process, as a share of the cores that it may use.",
        )
        .times(0.01),
    ),
    (
        "process.cpu_one_core",
        Unit::Percent,
        row(
            "tracing_cortex.process.cpu.cores",
            "{cpu}",
            Gauge,
            "CPU time of the process per time: how many cores it kept busy.",
        )
        .times(0.01),
    ),
    (
        "process.cpu_user",
        Unit::Percent,
        CPU_MODE.with("cpu.mode", "user"),
    ),
    (
        "process.cpu_system",
        Unit::Percent,
        CPU_MODE.with("cpu.mode", "system"),
    ),
    (
        "process.run_queue_wait",
        Unit::Count,
        row(
            "tracing_cortex.process.run_queue.wait",
            "1",
            Gauge,
            "Time that the threads of the process were ready to run without a core, per time.",
        ),
    ),
    (
        "process.runnable_threads",
        Unit::Count,
        row(
            "tracing_cortex.process.thread.runnable",
            "{thread}",
            Gauge,
            "Threads of the process that ran or were ready to run, on average.",
        ),
    ),
    (
        "process.throttled_periods",
        Unit::PerSecond,
        row(
            "tracing_cortex.process.cpu.throttled",
            "{period}/s",
            Gauge,
            "Periods per second in which a control group of the process used up its CPU time.",
        ),
    ),
    (
        "process.rss",
        Unit::Bytes,
        row(
            "process.memory.usage",
            "By",
            UpDownCounter,
            "Physical memory of the process.",
        ),
    ),
    (
        "process.virtual",
        Unit::Bytes,
        row(
            "process.memory.virtual",
            "By",
            UpDownCounter,
            "Virtual memory of the process.",
        ),
    ),
    (
        "process.threads",
        Unit::Count,
        row(
            "process.thread.count",
            "{thread}",
            UpDownCounter,
            "Threads of the process.",
        ),
    ),
    ("process.open_files", Unit::Count, OPEN_FILES),
    (
        "process.voluntary_switches",
        Unit::PerSecond,
        SWITCHES.with("process.context_switch.type", "voluntary"),
    ),
    (
        "process.involuntary_switches",
        Unit::PerSecond,
        SWITCHES.with("process.context_switch.type", "involuntary"),
    ),
    (
        "process.major_faults",
        Unit::PerSecond,
        row(
            "tracing_cortex.process.paging.fault.rate",
            "{fault}/s",
            Gauge,
            "Page faults of the process per second.",
        )
        .with("system.paging.fault.type", "major"),
    ),
    (
        "process.disk_read",
        Unit::BytesPerSecond,
        DISK.with("disk.io.direction", "read"),
    ),
    (
        "process.disk_write",
        Unit::BytesPerSecond,
        DISK.with("disk.io.direction", "write"),
    ),
    (
        "system.cpu",
        Unit::Percent,
        row(
            "system.cpu.utilization",
            "1",
            Gauge,
            "CPU time of the machine that was not idle, as a share of all its cores.",
        )
        .times(0.01),
    ),
    (
        "system.memory_used",
        Unit::Bytes,
        row(
            "system.memory.usage",
            "By",
            UpDownCounter,
            "Memory of the machine.",
        )
        .with("system.memory.state", "used"),
    ),
    (
        "system.memory_used_percent",
        Unit::Percent,
        row(
            "system.memory.utilization",
            "1",
            Gauge,
            "Memory of the machine, as a share of all of it.",
        )
        .times(0.01)
        .with("system.memory.state", "used"),
    ),
    (
        "system.swap_used",
        Unit::Bytes,
        row(
            "system.paging.usage",
            "By",
            UpDownCounter,
            "Swap space of the machine.",
        )
        .with("system.paging.state", "used"),
    ),
    (
        // The name of the collector's host metrics; the conventions have none.
        "system.load1",
        Unit::Count,
        row(
            "system.cpu.load_average.1m",
            "{thread}",
            Gauge,
            "Threads that ran or waited for a CPU, averaged over a minute.",
        ),
    ),
    (
        "system.net_received",
        Unit::BytesPerSecond,
        NETWORK.with("network.io.direction", "receive"),
    ),
    (
        "system.net_sent",
        Unit::BytesPerSecond,
        NETWORK.with("network.io.direction", "transmit"),
    ),
];

const OPEN_FILES: Convention<'static> = if cfg!(windows) {
    row(
        "process.windows.handle.count",
        "{handle}",
        UpDownCounter,
        "Handles of the process.",
    )
} else {
    row(
        "process.unix.file_descriptor.count",
        "{file_descriptor}",
        UpDownCounter,
        "File descriptors of the process.",
    )
};

/// Another name than the sum of both, or who adds up the attribute would count everything twice.
const CPU_MODE: Convention<'static> = row(
    "tracing_cortex.process.cpu.mode.cores",
    "{cpu}",
    Gauge,
    "CPU time of the process per time, in the program's code or in the kernel.",
)
.times(0.01);

const SWITCHES: Convention<'static> = row(
    "tracing_cortex.process.context_switch.rate",
    "{context_switch}/s",
    Gauge,
    "Context switches of the process per second.",
);

const DISK: Convention<'static> = row(
    "tracing_cortex.process.disk.io.rate",
    "By/s",
    Gauge,
    "Bytes that the process moved to and from storage per second.",
);

const NETWORK: Convention<'static> = row(
    "tracing_cortex.system.network.io.rate",
    "By/s",
    Gauge,
    "Bytes that all network interfaces but the loopback carried per second.",
);

pub(super) const fn row(
    name: &'static str,
    unit: &'static str,
    instrument: Instrument,
    description: &'static str,
) -> Convention<'static> {
    Convention {
        name,
        unit,
        description,
        instrument,
        factor: 1.0,
        attribute: None,
        device: None,
    }
}

impl Convention<'static> {
    pub(super) const fn times(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    pub(super) const fn with(mut self, key: &'static str, value: &'static str) -> Self {
        self.attribute = Some((key, value));
        self
    }
}

impl<'a> Convention<'a> {
    /// Returns how a series is sent: a series of the program's own as a gauge under its name.
    pub(super) fn of(series: &'a str, unit: Unit) -> Convention<'a> {
        let known = TABLE
            .iter()
            .find(|(name, in_unit, _)| *name == series && *in_unit == unit)
            .map(|(_, _, convention)| *convention);
        known
            .or_else(|| gpu::convention(series, unit))
            .unwrap_or(Convention {
                name: series,
                unit: ucum(unit),
                description: "",
                instrument: Gauge,
                factor: 1.0,
                attribute: None,
                device: None,
            })
    }
}

/// Returns the unit as the Unified Code for Units of Measure writes it.
fn ucum(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "By",
        Unit::BytesPerSecond => "By/s",
        Unit::Percent => "%",
        Unit::Count => "1",
        Unit::PerSecond => "1/s",
        Unit::Seconds => "s",
        Unit::Watts => "W",
        Unit::Joules => "J",
        Unit::Celsius => "Cel",
        Unit::Hertz => "Hz",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_series_become_the_same_stream() {
        let streams: BTreeSet<_> = TABLE
            .iter()
            .map(|(_, _, convention)| (convention.name, convention.attribute))
            .collect();
        assert_eq!(streams.len(), TABLE.len());
    }

    #[test]
    fn series_of_one_metric_agree_on_unit_and_instrument() {
        let metrics: BTreeSet<_> = TABLE.iter().map(|(_, _, c)| c.name).collect();
        let kinds: BTreeSet<_> = TABLE
            .iter()
            .map(|(_, _, c)| (c.name, c.unit, c.instrument))
            .collect();
        assert_eq!(kinds.len(), metrics.len());
    }

    #[test]
    fn every_series_that_the_sources_record_is_in_the_table() {
        let sources = [
            include_str!("../../../resources/process.rs"),
            include_str!("../../../resources/run_queue.rs"),
            include_str!("../../../resources/cgroup.rs"),
            include_str!("../../../resources/system.rs"),
            include_str!("../../../resources/network.rs"),
        ];
        let literals = sources
            .iter()
            .flat_map(|text| text.split('"').skip(1).step_by(2));
        let series: BTreeSet<_> = literals
            .filter(|text| text.starts_with("process.") || text.starts_with("system."))
            .collect();
        let table: BTreeSet<_> = TABLE.iter().map(|(series, _, _)| *series).collect();
        assert_eq!(series, table);
    }

    #[test]
    fn a_series_of_the_program_keeps_its_name_and_value() {
        let convention = Convention::of("queue.fill", Unit::Percent);
        assert_eq!(
            (convention.name, convention.unit, convention.factor),
            ("queue.fill", "%", 1.0)
        );
        // In another unit than the crate's own it is something else.
        assert_eq!(
            Convention::of("process.rss", Unit::Count).name,
            "process.rss"
        );
    }
}
