//! Settings from `TRACING_CORTEX_*`.

use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

use super::builder::CortexBuilder;
use super::level::ProfilingLevel;
use super::text_report::TextReport;
use crate::capture::Overflow;
use crate::diagnose::{RuleLevel, RuleLevels};
#[cfg(feature = "cuda")]
use crate::gpu::Cuda;
use crate::model::Target;

/// Applies every variable that is set.
pub(super) fn apply(builder: CortexBuilder) -> CortexBuilder {
    apply_from(
        builder,
        |name| std::env::var_os(name),
        |warning| {
            // Nothing is left to do where even standard error cannot be written.
            let _ = writeln!(std::io::stderr(), "tracing-cortex: {warning}");
        },
    )
}

fn apply_from(
    mut builder: CortexBuilder,
    variable: impl Fn(&str) -> Option<OsString>,
    mut warn: impl FnMut(String),
) -> CortexBuilder {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(value) = variable("TRACING_CORTEX_CHROME") {
        builder = match value.to_str() {
            Some("off") => builder.no_chrome(),
            _ => builder.chrome(value),
        };
    }
    if let Some(value) = variable("TRACING_CORTEX_KINETO") {
        builder = match value.to_str() {
            Some("off") => builder.no_kineto(),
            _ => builder.kineto(value),
        };
    }
    if let Some(value) = variable("TRACING_CORTEX_REPORT") {
        builder = builder.report_text(match value.to_str() {
            Some("stderr") => TextReport::Stderr,
            Some("off") => TextReport::Off,
            _ => TextReport::File(value.into()),
        });
    }
    if let Some(value) = variable("TRACING_CORTEX_JSON") {
        builder = match value.to_str() {
            Some("off") => builder.no_report_json(),
            _ => builder.report_json(value),
        };
    }
    let mut wrong = |name: &str, value: &OsString, accepted: &str| {
        warn(format!(
            "{name}={value:?} is not understood and is ignored; it takes {accepted}"
        ));
    };
    let name = "TRACING_CORTEX_RESOURCES";
    if let Some(value) = variable(name) {
        match value.to_str() {
            Some("off") => builder = builder.no_resources(),
            text => match text.and_then(interval) {
                Some(interval) => builder = builder.resources(interval),
                None => wrong(
                    name,
                    &value,
                    "off, or an interval from 10ms up, such as 250ms or 1s",
                ),
            },
        }
    }
    let name = "TRACING_CORTEX_LEVEL";
    if let Some(value) = variable(name) {
        match value.to_str() {
            Some("basic") => builder = builder.level(ProfilingLevel::Basic),
            Some("standard") => builder = builder.level(ProfilingLevel::Standard),
            Some("detailed") => builder = builder.level(ProfilingLevel::Detailed),
            _ => wrong(name, &value, "basic, standard or detailed"),
        }
    }
    let name = "TRACING_CORTEX_OVERFLOW";
    if let Some(value) = variable(name) {
        match value.to_str() {
            Some("drop") => builder = builder.overflow(Overflow::DropNewest),
            Some("block") => builder = builder.overflow(Overflow::Block),
            _ => wrong(name, &value, "drop or block"),
        }
    }
    let name = "TRACING_CORTEX_SIGNALS";
    if let Some(value) = variable(name) {
        match value.to_str() {
            Some("on") if HANDLES_SIGNALS => builder = builder.set_signals(true),
            Some("off") => builder = builder.set_signals(false),
            _ if HANDLES_SIGNALS => wrong(name, &value, "on or off"),
            _ => wrong(
                name,
                &value,
                "off, in a build without the feature `signals` or not for Unix",
            ),
        }
    }
    let name = "TRACING_CORTEX_TARGETS";
    if let Some(value) = variable(name) {
        match value.to_str().and_then(targets) {
            Some(targets) => builder.targets.extend(targets),
            None => wrong(
                name,
                &value,
                "targets separated by commas, such as handle:p95=100ms,query:p99.9=2s",
            ),
        }
    }
    let name = "TRACING_CORTEX_RULES";
    if let Some(value) = variable(name) {
        match levels(&value.to_string_lossy()) {
            Ok(levels) => builder.levels.extend(levels),
            Err(problem) => wrong(
                name,
                &value,
                &format!(
                    "rules with allow, warn or deny, such as CTX603=allow,tail-latency=deny ({problem})"
                ),
            ),
        }
    }
    let name = "TRACING_CORTEX_CUDA";
    if let Some(value) = variable(name) {
        builder = match value.to_str() {
            Some("off") => no_cuda(builder),
            #[cfg(feature = "cuda")]
            Some("auto") => builder.cuda(Cuda::auto()),
            #[cfg(feature = "cuda")]
            Some("events") => builder.cuda(Cuda::auto().without_cupti()),
            _ => {
                wrong(
                    name,
                    &value,
                    match cfg!(feature = "cuda") {
                        true => "auto, events or off",
                        false => "off, in a build without the feature `cuda`",
                    },
                );
                builder
            }
        };
    }
    builder
}

fn no_cuda(builder: CortexBuilder) -> CortexBuilder {
    #[cfg(feature = "cuda")]
    let builder = builder.no_cuda();
    builder
}

const HANDLES_SIGNALS: bool = cfg!(all(unix, feature = "signals"));

/// Reads `250ms` or `2s`.
fn interval(text: &str) -> Option<Duration> {
    let interval = match text.strip_suffix("ms") {
        Some(number) => Duration::from_millis(number.trim().parse().ok()?),
        None => {
            let seconds: f64 = text.strip_suffix('s')?.trim().parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok()?
        }
    };
    (interval >= Duration::from_millis(10)).then_some(interval)
}

/// Reads `handle:p95=100ms,db::query:p99.9=2s`.
fn targets(text: &str) -> Option<Vec<Target>> {
    let targets = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    let targets = targets.map(|one| {
        let (place, limit) = one.rsplit_once('=')?;
        let (site, percentile) = place.rsplit_once(':')?;
        let percentile = percentile.trim().strip_prefix('p')?.parse().ok()?;
        let target = Target::new(site.trim(), percentile, length(limit.trim())?);
        (target.is_valid() && !target.site.is_empty()).then_some(target)
    });
    targets.collect()
}

/// Reads `250us`, `1.5ms` or `2s`.
fn length(text: &str) -> Option<Duration> {
    let (number, unit) = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let number: f64 = number.trim().parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok()
}

/// Reads `CTX603=allow,tail-latency=deny`.
fn levels(text: &str) -> Result<Vec<(String, RuleLevel)>, String> {
    let mut known = RuleLevels::default();
    let mut levels = Vec::new();
    let settings = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    for one in settings {
        let (rule, level) = one
            .split_once('=')
            .ok_or_else(|| format!("{one:?} has no level"))?;
        let level = match level.trim() {
            "allow" => RuleLevel::Allow,
            "warn" => RuleLevel::Warn,
            "deny" => RuleLevel::Deny,
            other => return Err(format!("{other:?} is no level")),
        };
        let rule = rule.trim();
        known
            .set(rule, level)
            .map_err(|unknown| unknown.to_string())?;
        levels.push((rule.to_owned(), level));
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::CortexLayer;

    fn apply(name: &'static str, value: &str) -> (String, Vec<String>) {
        let value = OsString::from(value);
        let mut warnings = Vec::new();
        let builder = apply_from(
            CortexLayer::builder(),
            |asked| (asked == name).then(|| value.clone()),
            |warning| warnings.push(warning),
        );
        (format!("{builder:?}"), warnings)
    }

    #[test]
    fn a_wrong_value_warns_with_name_and_accepted_values_and_changes_nothing() {
        let default = format!("{:?}", CortexLayer::builder());
        for (name, value, accepted) in [
            ("TRACING_CORTEX_OVERFLOW", "wait", "drop or block"),
            (
                "TRACING_CORTEX_LEVEL",
                "high",
                "basic, standard or detailed",
            ),
            ("TRACING_CORTEX_RESOURCES", "soon", "250ms"),
            ("TRACING_CORTEX_RESOURCES", "1ms", "10ms"),
            ("TRACING_CORTEX_RESOURCES", "-1s", "250ms"),
            ("TRACING_CORTEX_RESOURCES", "NaNs", "250ms"),
            ("TRACING_CORTEX_SIGNALS", "yes", "off"),
            ("TRACING_CORTEX_TARGETS", "handle:p95", "p95=100ms"),
            ("TRACING_CORTEX_TARGETS", "handle:p0.95=1s", "p95=100ms"),
            ("TRACING_CORTEX_TARGETS", "handle:p95=0ms", "p95=100ms"),
            ("TRACING_CORTEX_RULES", "CTX601", "deny"),
            ("TRACING_CORTEX_RULES", "CTX601=off", "allow, warn or deny"),
            (
                "TRACING_CORTEX_RULES",
                "CTX603=deny,tail=deny",
                "nearest is",
            ),
            #[cfg(not(all(unix, feature = "signals")))]
            ("TRACING_CORTEX_SIGNALS", "on", "feature `signals`"),
        ] {
            let (builder, warnings) = apply(name, value);
            assert_eq!(builder, default);
            let [warning] = warnings.as_slice() else {
                panic!("one warning for {name}={value}, got {warnings:?}")
            };
            assert!(
                warning.contains(name) && warning.contains(accepted),
                "{warning}"
            );
        }
    }

    #[test]
    fn right_values_are_taken_without_a_warning() {
        for (name, value, expected) in [
            ("TRACING_CORTEX_OVERFLOW", "block", "overflow: Block"),
            ("TRACING_CORTEX_LEVEL", "basic", "level: Basic"),
            ("TRACING_CORTEX_RESOURCES", "1.5s", "Some(1.5s)"),
            ("TRACING_CORTEX_RESOURCES", "off", "resources: None"),
            ("TRACING_CORTEX_CHROME", "t.json", "Some(\"t.json\")"),
            (
                "TRACING_CORTEX_KINETO",
                "traces",
                "kineto: Some(\"traces\")",
            ),
            ("TRACING_CORTEX_REPORT", "stderr", "text: Stderr"),
            ("TRACING_CORTEX_REPORT", "r.txt", "File(\"r.txt\")"),
            ("TRACING_CORTEX_JSON", "r.json", "Some(\"r.json\")"),
            (
                "TRACING_CORTEX_TARGETS",
                "db::query:p99.9=1.5ms",
                "site: \"db::query\", percentile: 99.9, limit: Nanos(1500000)",
            ),
            (
                "TRACING_CORTEX_RULES",
                "CTX603=allow, tail-latency = deny",
                "(\"CTX603\", Allow), (\"tail-latency\", Deny)",
            ),
        ] {
            let (builder, warnings) = apply(name, value);
            assert!(builder.contains(expected), "{builder}");
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }
}
