//! Readings of the process, the machine and its devices.

use super::*;

#[test]
fn readings_keep_their_own_times() {
    let mut metrics = Metrics::new(settings(Temporality::Delta));
    let at = |ms: u64| Nanos(ms * 1_000_000);
    metrics.samples(&[
        Sample::new("process.rss", Unit::Bytes, at(100), 4096.0),
        Sample::new("process.cpu", Unit::Percent, at(100), 25.0),
        Sample::new("process.disk_read", Unit::BytesPerSecond, at(100), 7.0),
    ]);
    metrics.samples(&[
        Sample::new("process.rss", Unit::Bytes, at(350), 8192.0),
        Sample::new("process.disk_write", Unit::BytesPerSecond, at(350), 9.0),
        Sample::new("queue.depth", Unit::Count, at(350), 3.0),
    ]);
    let received = Received::from(&mut metrics, &profile(1000, Vec::new()));

    let rss: Vec<_> = received
        .points("process.memory.usage")
        .iter()
        .map(|point| (point.time_unix_nano - STARTED, number(point.value)))
        .collect();
    assert_eq!(rss, [(100_000_000, 4096.0), (350_000_000, 8192.0)]);
    assert_eq!(received.total("process.cpu.utilization", &[]), 0.25);
    assert_eq!(received.metric("process.cpu.utilization").unit, "1");
    let disk = "tracing_cortex.process.disk.io.rate";
    assert_eq!(received.total(disk, &[("disk.io.direction", "read")]), 7.0);
    assert_eq!(received.total(disk, &[("disk.io.direction", "write")]), 9.0);
    assert_eq!(received.total("queue.depth", &[]), 3.0);

    let next = Received::from(&mut metrics, &profile(2000, Vec::new()));
    assert!(!next.has("process.memory.usage"));
    assert_eq!(metrics.take_dropped_samples(), 0);
}

#[test]
fn readings_of_a_device_say_which_device_it_is() {
    let mut metrics = Metrics::new(settings(Temporality::Cumulative));
    let at = Nanos(100);
    metrics.samples(&[
        Sample::new("gpu.1.utilization", Unit::Percent, at, 63.0),
        Sample::new("gpu.1.memory_used", Unit::Bytes, at, 4096.0),
        Sample::new("gpu.1.power", Unit::Watts, at, 310.5),
        Sample::new("gpu.1.temperature", Unit::Celsius, at, 47.0),
        Sample::new("gpu.1.throttle_power", Unit::Percent, at, 40.0),
        Sample::new("gpu.1.throttle_thermal", Unit::Percent, at, 5.0),
        Sample::new("gpu.2.power", Unit::Watts, at, 90.0),
    ]);
    let mut profile = profile(1000, Vec::new());
    let device = GpuDevice {
        ordinal: 1,
        name: Some("NVIDIA H200".to_owned()),
        uuid: Some("GPU-1".to_owned()),
        ..GpuDevice::default()
    };
    profile.gpu = Some(GpuProfile {
        devices: vec![GpuDeviceStats {
            device,
            ..GpuDeviceStats::default()
        }],
        ..GpuProfile::default()
    });
    let received = Received::from(&mut metrics, &profile);
    let known = [
        ("hw.id", "GPU-1"),
        ("hw.name", "NVIDIA H200"),
        ("hw.type", "gpu"),
    ];
    assert_eq!(received.total("hw.gpu.utilization", &known), 0.63);
    assert_eq!(received.metric("hw.gpu.utilization").unit, "1");
    assert_eq!(received.total("hw.gpu.memory.usage", &known), 4096.0);
    assert_eq!(received.total("hw.power", &known), 310.5);
    assert_eq!(received.metric("hw.power").unit, "W");
    assert_eq!(received.total("hw.power", &[("hw.id", "gpu.2")]), 90.0);
    assert_eq!(received.total("hw.temperature", &known), 47.0);
    assert_eq!(received.metric("hw.temperature").unit, "Cel");
    for (reason, share) in [("power", 0.4), ("thermal", 0.05)] {
        let reason = [("tracing_cortex.hw.gpu.throttle.reason", reason)];
        assert_eq!(
            received.total("tracing_cortex.hw.gpu.throttled", &reason),
            share
        );
    }
}

#[test]
fn energy_is_a_counter_in_the_temporality_that_was_asked_for() {
    let rounds = [[(100, 0.0), (200, 5.0)], [(300, 9.0), (400, 9.5)]];
    let second = |temporality| {
        let mut metrics = Metrics::new(settings(temporality));
        let mut send = |round: [(u64, f64); 2]| {
            let samples = round
                .map(|(at, value)| Sample::new("gpu.0.energy", Unit::Joules, Nanos(at), value));
            metrics.samples(&samples);
            Received::from(&mut metrics, &profile(1000, Vec::new()))
        };
        send(rounds[0]);
        let received = send(rounds[1]);
        let points = received.points("hw.energy");
        let of = |point: &NumberDataPoint| {
            let start = point.start_time_unix_nano - STARTED;
            let time = point.time_unix_nano - STARTED;
            (start, time, number(point.value))
        };
        let points: Vec<_> = points.iter().map(of).collect();
        (received.temporality("hw.energy"), points)
    };
    let whole = vec![(0, 300, 9.0), (0, 400, 9.5)];
    for temporality in [Temporality::Cumulative, Temporality::LowMemory] {
        let expected = (AggregationTemporality::Cumulative, whole.clone());
        assert_eq!(second(temporality), expected);
    }
    let grown = vec![(200, 300, 4.0), (300, 400, 0.5)];
    assert_eq!(
        second(Temporality::Delta),
        (AggregationTemporality::Delta, grown)
    );
}
