//! What is missing from the report, and what making it cost.

use super::gpu;
use super::number::{bytes, count, counted, percent, time};
use super::page::{Page, Role};
use super::visible::visible;
use crate::model::{Export, Losses, Overhead, Profile};

pub(super) fn print(profile: &Profile, page: &mut Page) {
    let mut losses = lines(&profile.losses);
    losses.extend(gpu::losses(profile));
    page.section("LOSSES AND COST", "");
    if losses.is_empty() && !profile.exports.iter().any(has_lost) {
        page.paragraph(Role::Plain, "  ", 2, "Nothing was lost.");
    }
    for line in losses {
        page.paragraph(Role::Strong, "  ", 2, &line);
    }
    for sent in &profile.exports {
        let role = if has_lost(sent) {
            Role::Strong
        } else {
            Role::Plain
        };
        page.paragraph(role, "  ", 2, &export(sent));
    }
    page.paragraph(Role::Plain, "  ", 2, &cost(&profile.overhead));
}

/// Returns one sentence for each loss that happened.
fn lines(losses: &Losses) -> Vec<String> {
    let counts = [
        (
            losses.dropped_spans,
            "span record",
            "dropped from the event stream because its buffer was full; the numbers above count them",
        ),
        (
            losses.dropped_events,
            "event",
            "dropped from the event stream because its buffer was full",
        ),
        (losses.cut_strings, "field value", "cut at the length limit"),
        (
            losses.panicked_fields,
            "field value",
            "left out because their Debug implementation panicked",
        ),
        (
            losses.folded_activations,
            "activation",
            "counted under (other) or a recursion, beyond the limits of the call tree",
        ),
        (
            losses.untracked_spans,
            "span",
            "beyond the limit of open spans: without latency, otherwise counted",
        ),
        (
            losses.unknown_spans,
            "activation",
            "of spans that were created before the layer was there: not counted",
        ),
        (
            losses.unbalanced_exits,
            "exit",
            "without an enter on its thread: ignored",
        ),
        (
            losses.out_of_order_exits,
            "span guard",
            "dropped in another order than taken: self time there is approximate",
        ),
        (
            losses.nested_enters,
            "enter",
            "of a span that its thread was inside of already: part of the outer one",
        ),
        (
            losses.late_latencies,
            "async span",
            "whose latency counts from the first poll, because spans of its site had been polled once only before",
        ),
        (
            losses.late_calls,
            "call",
            "through a held span that looked like a poll of an async span: counted, but no span of a trace",
        ),
        (
            losses.clock_steps,
            "activation",
            "ended before it began, as the clock stepped back: counted as zero",
        ),
        (
            losses.teardown,
            "callback",
            "on a thread that was shutting down: not counted",
        ),
        (
            losses.outliers,
            "duration",
            "beyond the histogram's range: only its maximum is exact",
        ),
        (
            losses.stray_records,
            "record",
            "missing from sampled trees, which are marked as truncated; the numbers above count them",
        ),
        (
            losses.open_spans,
            "span",
            "still open at the end: counted up to then",
        ),
    ];
    let counted = counts
        .into_iter()
        .filter(|(number, _, _)| *number > 0)
        .map(|(number, noun, what)| format!("{} {what}.", counted(number, noun)));
    let failures = losses.failures.iter().map(|failure| {
        format!(
            "{} failed: {}",
            visible(&failure.name),
            visible(&failure.message)
        )
    });
    counted.chain(failures).collect()
}

/// What was spilled can still be sent.
fn has_lost(export: &Export) -> bool {
    export.refused > 0 || export.dropped > 0 || export.lost_points > 0
}

/// Says what became of the spans that were to be sent elsewhere.
fn export(export: &Export) -> String {
    let mut text = format!(
        "{} to {}: {} exported, {} refused, {} dropped",
        visible(&export.name),
        visible(&export.endpoint),
        counted(export.exported, "span"),
        count(export.refused),
        count(export.dropped),
    );
    let others = [
        (export.spilled, "written to the spill file"),
        (export.pending, "on their way"),
        (export.sampled_out, "left out by sampling"),
        (
            export.gpu_beyond_limit,
            "of devices left out by max_gpu_spans",
        ),
        (export.adopted, "left to the program's own exporter"),
    ];
    for (number, what) in others.into_iter().filter(|(number, _)| *number > 0) {
        text.push_str(&format!(", {} {what}", count(number)));
    }
    if export.exported_points > 0 || export.lost_points > 0 {
        text.push_str(&format!(
            "; {} exported, {} lost",
            counted(export.exported_points, "metric point"),
            count(export.lost_points),
        ));
    }
    text.push('.');
    if let Some(error) = &export.last_error {
        text.push_str(&format!(" The last error: {}.", visible(error)));
    }
    if let Some(error) = &export.last_points_error {
        text.push_str(&format!(" The last error of metrics: {}.", visible(error)));
    }
    if let Some(warning) = &export.last_warning {
        text.push_str(&format!(" The last warning: {}.", visible(warning)));
    }
    text
}

fn cost(overhead: &Overhead) -> String {
    if overhead.span_ns <= 0.0 {
        return "The layer's own cost was not measured.".to_owned();
    }
    let mut text = format!(
        "The layer cost {} a span and {} a further activation: {} in all",
        time(overhead.span_ns),
        time(overhead.activation_ns),
        overhead.total
    );
    if let Some(share) = overhead.share_of_cpu {
        text.push_str(&format!(", {} of the CPU time", percent(share)));
    }
    if let Some(background) = overhead.background_cpu {
        text.push_str(&format!("; its own threads used {background} of CPU"));
    }
    text.push_str(&format!(
        "; {} of memory.",
        bytes(overhead.memory_bytes as f64)
    ));
    text
}
