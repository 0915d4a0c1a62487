//! Under which names the readings of GPUs are sent.
//!
//! The conventions' `hw.gpu.memory.utilization` is the share that is in use, which is `hw.gpu.memory.usage` over
//! `hw.gpu.memory.limit`; the series `memory_utilization` is a share of time. Their `hw.gpu.io` is a counter, the series are
//! rates.

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::conventions::{Convention, Instrument, row};
use super::points::attribute;
use crate::model::{GpuDevice, Unit};

use Instrument::{Counter, Gauge, UpDownCounter};

type Row = (&'static str, Unit, Convention<'static>);

/// Every series of a device, without what names the device.
const TABLE: &[Row] = &[
    (
        ".utilization",
        Unit::Percent,
        row(
            "hw.gpu.utilization",
            "1",
            Gauge,
            "Share of time in which a kernel ran on the device.",
        )
        .times(0.01)
        .with("hw.gpu.task", "general"),
    ),
    (
        ".memory_utilization",
        Unit::Percent,
        row(
            "tracing_cortex.hw.gpu.memory.busy",
            "1",
            Gauge,
            "Share of time in which the device's memory was read or written.",
        )
        .times(0.01),
    ),
    (
        ".memory_used",
        Unit::Bytes,
        row(
            "hw.gpu.memory.usage",
            "By",
            UpDownCounter,
            "Memory of the device that is in use, by any process.",
        ),
    ),
    (
        ".memory_total",
        Unit::Bytes,
        row(
            "hw.gpu.memory.limit",
            "By",
            UpDownCounter,
            "Memory of the device.",
        ),
    ),
    (
        ".process_memory",
        Unit::Bytes,
        row(
            "tracing_cortex.process.gpu.memory.usage",
            "By",
            UpDownCounter,
            "Memory of the device that this process uses.",
        ),
    ),
    (
        ".power",
        Unit::Watts,
        row("hw.power", "W", Gauge, "Power that the device draws."),
    ),
    (
        ".energy",
        Unit::Joules,
        row(
            "hw.energy",
            "J",
            Counter,
            "Energy that the device has used since the start.",
        ),
    ),
    (
        ".temperature",
        Unit::Celsius,
        row("hw.temperature", "Cel", Gauge, "Temperature of the device."),
    ),
    (".clock_sm", Unit::Hertz, CLOCK.with(CLOCK_OF, "sm")),
    (".clock_memory", Unit::Hertz, CLOCK.with(CLOCK_OF, "memory")),
    (
        ".pcie_rx",
        Unit::BytesPerSecond,
        PCIE.with("network.io.direction", "receive"),
    ),
    (
        ".pcie_tx",
        Unit::BytesPerSecond,
        PCIE.with("network.io.direction", "transmit"),
    ),
    (
        ".throttle_power",
        Unit::Percent,
        THROTTLE.with(REASON, "power"),
    ),
    (
        ".throttle_thermal",
        Unit::Percent,
        THROTTLE.with(REASON, "thermal"),
    ),
    (
        ".throttle_hardware",
        Unit::Percent,
        THROTTLE.with(REASON, "hardware"),
    ),
    (
        ".throttle_board",
        Unit::Percent,
        THROTTLE.with(REASON, "board"),
    ),
    (
        ".throttle_reliability",
        Unit::Percent,
        THROTTLE.with(REASON, "reliability"),
    ),
];

const CLOCK: Convention<'static> = row(
    "tracing_cortex.hw.gpu.speed",
    "Hz",
    Gauge,
    "Frequency of a clock of the device.",
);
const CLOCK_OF: &str = "tracing_cortex.hw.gpu.clock";

const PCIE: Convention<'static> = row(
    "tracing_cortex.hw.gpu.io.rate",
    "By/s",
    Gauge,
    "Bytes that the device received and sent over PCIe per second.",
);

const THROTTLE: Convention<'static> = row(
    "tracing_cortex.hw.gpu.throttled",
    "1",
    Gauge,
    "Share of time in which the device held its clocks down.",
)
.times(0.01);
const REASON: &str = "tracing_cortex.hw.gpu.throttle.reason";

/// Returns how a series of a device is sent, and what names the device in it; `None` if it is no such series.
pub(super) fn convention(series: &str, unit: Unit) -> Option<Convention<'_>> {
    let (device, reading) = series.split_at(series.rfind('.')?);
    number(device)?;
    let mut rows = TABLE.iter();
    let (_, _, convention) =
        rows.find(|(name, in_unit, _)| *name == reading && *in_unit == unit)?;
    Some(Convention {
        device: Some(device),
        ..*convention
    })
}

/// Describes the device that a series belongs to, as far as it is known.
pub(super) fn attributes(device: &str, known: &[GpuDevice]) -> Vec<KeyValue> {
    let number = number(device);
    let known = known.iter().find(|known| Some(known.ordinal) == number);
    let id = known.and_then(|known| known.uuid.as_deref());
    let mut attributes = vec![
        attribute("hw.id", id.unwrap_or(device)),
        attribute("hw.type", "gpu"),
    ];
    let name = known.and_then(|known| known.name.as_deref());
    attributes.extend(name.map(|name| attribute("hw.name", name)));
    attributes
}

/// Returns the number in `gpu.0`, or in `gpu.nvml0`. A capture has devices of one kind only.
fn number(device: &str) -> Option<u32> {
    let number = device.strip_prefix("gpu.")?;
    let number = number.strip_prefix("nvml").unwrap_or(number);
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_series_of_a_device_is_in_the_table() {
        let text = include_str!("../../../resources/nvml/reader.rs");
        let literals = text.split('"').skip(1).step_by(2);
        let series: BTreeSet<_> = literals.filter(|text| text.starts_with('.')).collect();
        let table: BTreeSet<_> = TABLE.iter().map(|(series, ..)| *series).collect();
        assert_eq!(series, table);
        assert_eq!(table.len(), TABLE.len());
    }

    #[test]
    fn no_two_series_become_the_same_stream_and_those_of_one_metric_agree() {
        let streams: BTreeSet<_> = TABLE.iter().map(|(.., c)| (c.name, c.attribute)).collect();
        assert_eq!(streams.len(), TABLE.len());
        let metrics: BTreeSet<_> = TABLE.iter().map(|(.., c)| c.name).collect();
        let kinds: BTreeSet<_> = TABLE
            .iter()
            .map(|(.., c)| (c.name, c.unit, c.instrument))
            .collect();
        assert_eq!(kinds.len(), metrics.len());
    }

    #[test]
    fn only_devices_with_a_number_are_taken_for_devices() {
        let name = |series| Convention::of(series, Unit::Percent).name;
        assert_eq!(name("gpu.0.utilization"), "hw.gpu.utilization");
        assert_eq!(name("gpu.nvml12.utilization"), "hw.gpu.utilization");
        for own in [
            "gpu.utilization",
            "gpu.main.utilization",
            "gpu.+1.utilization",
            "gpu.nvml.utilization",
            "gpu.0.queue.utilization",
            "gpu.0.fill",
            "cpu.0.utilization",
        ] {
            assert_eq!(name(own), own);
        }
        let other_unit = Convention::of("gpu.0.utilization", Unit::Bytes);
        assert_eq!(other_unit.name, "gpu.0.utilization");
    }
}
