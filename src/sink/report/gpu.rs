//! What devices did: theirs is another time than that of the calls which had them do it.

use super::number::{bytes, count, counted, percent, significant};
use super::page::{Page, Role};
use super::table::Table;
use super::visible::visible;
use crate::model::{GpuDeviceStats, GpuProfile, GpuSource, GpuTotals, Nanos, Profile};

/// Rows of the table of devices.
const DEVICES: usize = 16;

/// Rows of the table of kernels.
const KERNELS: usize = 5;

pub(super) fn print(profile: &Profile, page: &mut Page) {
    let Some(gpu) = &profile.gpu else { return };
    page.section(
        "GPU",
        "device time: when devices ran; calls into the driver are host time and said to be so",
    );
    for notice in &gpu.notices {
        let text = format!("Not measured: {} - {}", notice.what, visible(&notice.why));
        page.paragraph(Role::Strong, "", 0, &text);
    }
    let active: Vec<&GpuDeviceStats> = gpu.devices.iter().filter(|row| was_used(row)).collect();
    if active.is_empty() {
        let text = match gpu.devices.len() as u64 {
            0 => "No device did anything.".to_owned(),
            devices => format!("None of {} did anything.", counted(devices, "device")),
        };
        page.paragraph(Role::Plain, "", 0, &text);
        return;
    }
    devices(&active, gpu.devices.len(), page);
    kernels(gpu, &active, page);
    for (role, text) in sentences(gpu, &active) {
        page.paragraph(role, "", 0, &text);
    }
}

fn was_used(row: &GpuDeviceStats) -> bool {
    row.window > Nanos::ZERO || row.totals.launches > 0 || !row.totals.sources.is_empty()
}

/// Returns what stands for a device.
fn label(row: &GpuDeviceStats) -> String {
    let ordinal = row.device.ordinal;
    match &row.device.name {
        Some(name) => format!("{ordinal} {}", visible(name)),
        None => format!("device {ordinal}"),
    }
}

fn devices(active: &[&GpuDeviceStats], all: usize, page: &mut Page) {
    let mut table = Table::new(&[
        "device",
        "busy %",
        "busy",
        "kernels",
        "copies",
        "idle: host",
        "pause",
        "other",
        "peak memory",
    ]);
    for row in active.iter().take(DEVICES) {
        let peak = row.peak_bytes.map(|peak| bytes(peak as f64));
        let busy = match row.window {
            Nanos::ZERO => "-".to_owned(),
            window => percent(row.totals.busy.share_of(window)),
        };
        table.row(vec![
            (Role::Plain, label(row)),
            (Role::Strong, busy),
            (Role::Plain, row.totals.busy.to_string()),
            (Role::Plain, count(row.totals.kernels)),
            (Role::Plain, count(row.totals.copies)),
            (Role::Plain, row.idle.host.to_string()),
            (Role::Plain, row.idle.kernel.to_string()),
            (Role::Plain, row.idle.other.to_string()),
            (Role::Plain, peak.unwrap_or_else(|| "-".to_owned())),
        ]);
    }
    let dropped = table.print(page);
    if !dropped.is_empty() {
        let text = format!(
            "No room for {}; the JSON report has them.",
            dropped.join(", ")
        );
        page.paragraph(Role::Dim, "", 0, &text);
    }
    page.paragraph(
        Role::Dim,
        "",
        0,
        "Busy is a share of the time from the first work to the end of the last. A stream is idle because the host had \
         launched nothing, for a pause under 30 us between two kernels, or for something else that work waits for.",
    );
    let hidden = active.len().saturating_sub(DEVICES) as u64;
    if hidden > 0 {
        page.paragraph(
            Role::Plain,
            "",
            0,
            &format!("and {}", counted(hidden, "more device")),
        );
    }
    if let Some(text) = comparison(active, all) {
        page.paragraph(Role::Plain, "", 0, &text);
    }
}

/// Compares several devices.
fn comparison(active: &[&GpuDeviceStats], all: usize) -> Option<String> {
    if all < 2 {
        return None;
    }
    let unused = all - active.len();
    let busiest = active.iter().max_by_key(|row| row.totals.busy)?;
    let sum: Nanos = active.iter().map(|row| row.totals.busy).sum();
    let mut text = String::new();
    if active.len() > 1 && sum > Nanos::ZERO {
        let mean = sum.0 as f64 / active.len() as f64;
        text = format!(
            "Of {} devices device {} is the busiest, with {}x the mean.",
            active.len(),
            busiest.device.ordinal,
            significant(busiest.totals.busy.0 as f64 / mean)
        );
    }
    if unused > 0 {
        let of = counted(all as u64, "device");
        text.push_str(&format!(" {unused} of {of} did nothing."));
    }
    Some(text.trim_start().to_owned()).filter(|text| !text.is_empty())
}

fn kernels(gpu: &GpuProfile, active: &[&GpuDeviceStats], page: &mut Page) {
    if gpu.kernels.is_empty() {
        return;
    }
    page.blank();
    let all: Nanos = active.iter().map(|row| row.totals.kernel_time).sum();
    let mut table = Table::new(&["kernel", "runs", "time", "time %", "mean", "max"]);
    let shown = gpu.kernels.get(..KERNELS).unwrap_or(&gpu.kernels);
    for row in shown {
        table.row(vec![
            (Role::Plain, visible(&row.name).into_owned()),
            (Role::Plain, count(row.runs)),
            (Role::Plain, row.time.to_string()),
            (Role::Strong, percent(row.time.share_of(all))),
            (Role::Plain, Nanos(row.time.0 / row.runs.max(1)).to_string()),
            (Role::Plain, row.max.to_string()),
        ]);
    }
    table.print(page);
    let shown: Nanos = shown.iter().map(|row| row.time).sum();
    let others = all.saturating_sub(shown);
    if gpu.kernels.len() > KERNELS {
        let text = format!("and other kernels ({others})");
        page.paragraph(Role::Plain, "", 0, &text);
    }
    page.blank();
}

fn sentences(gpu: &GpuProfile, active: &[&GpuDeviceStats]) -> Vec<(Role, String)> {
    let totals = || active.iter().map(|row| &row.totals);
    let sum = |of: fn(&GpuTotals) -> u64| totals().map(of).sum::<u64>();
    let time = |of: fn(&GpuTotals) -> Nanos| totals().map(of).sum::<Nanos>();
    let mut lines = Vec::new();
    let copies = sum(|totals| totals.copies);
    if copies > 0 {
        let size = |of: fn(&GpuTotals) -> u64| bytes(sum(of) as f64);
        let mut text = format!(
            "Copies: {} in {}; {} to devices, {} to the host, {} within a device",
            count(copies),
            time(|totals| totals.copy_time),
            size(|totals| totals.to_device_bytes),
            size(|totals| totals.to_host_bytes),
            size(|totals| totals.on_device_bytes),
        );
        if sum(|totals| totals.peer_bytes) > 0 {
            let peer = size(|totals| totals.peer_bytes);
            text.push_str(&format!(", {peer} between devices"));
        }
        text.push('.');
        lines.push((Role::Plain, text));
        let pageable = sum(|totals| totals.pageable_copies);
        if pageable > 0 {
            let text = format!(
                "{} of these copies ({}) {} of pageable memory, which the driver must stage and the host must wait for: \
                 page-locked memory is faster.",
                count(pageable),
                size(|totals| totals.pageable_bytes),
                if pageable == 1 { "is" } else { "are" },
            );
            lines.push((Role::Strong, text));
        }
    }
    let calls = [
        (
            "launch calls (host)",
            sum(|totals| totals.launches),
            time(|totals| totals.launch_time),
        ),
        (
            "waiting calls (host)",
            sum(|totals| totals.syncs),
            time(|totals| totals.sync_time),
        ),
        (
            "allocations (host)",
            sum(|totals| totals.allocations),
            time(|totals| totals.memory_time),
        ),
    ];
    let calls: Vec<String> = calls
        .into_iter()
        .filter(|(_, number, _)| *number > 0)
        .map(|(what, number, time)| format!("{what} {} in {time}", count(number)))
        .collect();
    if !calls.is_empty() {
        lines.push((Role::Plain, format!("Calls: {}.", calls.join(", "))));
    }
    let delays: Vec<String> = active.iter().filter_map(|row| delay(row)).collect();
    if !delays.is_empty() {
        let text = format!("From launch to begin: {}.", delays.join("; "));
        lines.push((Role::Plain, text));
    }
    let ranges = sum(|totals| totals.ranges);
    if ranges > 0 {
        let text = format!(
            "{} of {} from mark to mark, pauses included.",
            counted(ranges, "range"),
            time(|totals| totals.range_time)
        );
        lines.push((Role::Plain, text));
    }
    let outside = &gpu.outside;
    if outside.busy > Nanos::ZERO || outside.launches > 0 {
        let text = format!(
            "Outside of all spans: busy {}, {}, {} launch calls (host) in {}.",
            outside.busy,
            counted(outside.kernels, "kernel"),
            count(outside.launches),
            outside.launch_time,
        );
        lines.push((Role::Plain, text));
    }
    lines.extend(sources(active).map(|text| (Role::Dim, text)));
    lines
}

fn delay(row: &GpuDeviceStats) -> Option<String> {
    let delay = row.totals.launch_delay.as_ref()?;
    let depth = row.streams.iter().filter_map(|row| row.max_queue_depth);
    let mut text = format!(
        "device {} p50 {}, p99 {}",
        row.device.ordinal, delay.quantiles.p50, delay.quantiles.p99
    );
    if let Some(depth) = depth.max() {
        let depth = count(depth.into());
        text.push_str(&format!(", at most {depth} under way in a stream"));
    }
    Some(text)
}

/// Says who measured, because not all of them measure the same.
fn sources(active: &[&GpuDeviceStats]) -> Option<String> {
    let has = |source| {
        let mut rows = active.iter();
        rows.any(|row| row.totals.sources.contains(&source))
    };
    let mut measured = Vec::new();
    if has(GpuSource::Cupti) {
        measured.push("CUPTI");
    }
    if has(GpuSource::Events) {
        measured.push("pairs of events");
    }
    let measured = measured.join(" and ");
    match (measured.is_empty(), has(GpuSource::Reported)) {
        (true, false) => None,
        (false, false) => Some(format!("Measured by {measured}.")),
        (true, true) => Some("Reported by the program, not measured.".to_owned()),
        (false, true) => Some(format!(
            "Measured by {measured}; some is reported by the program, not measured."
        )),
    }
}

/// Returns one sentence for each loss that happened.
pub(super) fn losses(profile: &Profile) -> Vec<String> {
    let Some(gpu) = &profile.gpu else {
        return Vec::new();
    };
    let counts = [
        (
            gpu.unattributed,
            "piece",
            "of GPU work whose call was not seen: in the numbers of the device, in those of no span",
        ),
        (
            gpu.dropped_records,
            "GPU record",
            "dropped by the driver because it had no buffer: not counted",
        ),
        (
            gpu.dropped_calls,
            "call",
            "into the GPU's driver not recorded, for lack of room: their work is in the numbers of no span",
        ),
        (
            gpu.unfinished,
            "piece",
            "of GPU work had not ended when the capture did: not counted",
        ),
        (
            gpu.unknown_calls,
            "call",
            "into the GPU's driver of a function that is not known here: in no sum",
        ),
        (
            gpu.lost_ranges.captured,
            "range",
            "on a GPU not measured, because its stream was being recorded into a graph",
        ),
        (
            gpu.lost_ranges.exhausted,
            "range",
            "on a GPU not measured, because too many were under way",
        ),
        (
            gpu.lost_ranges.failed,
            "range",
            "on a GPU not measured, because the driver refused",
        ),
    ];
    counts
        .into_iter()
        .filter(|(number, _, _)| *number > 0)
        .map(|(number, noun, what)| format!("{} {what}.", counted(number, noun)))
        .collect()
}
