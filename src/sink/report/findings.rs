//! What the diagnosis found, the most worthwhile first.

use std::collections::BTreeSet;

use super::number::{counted, evidence, significant};
use super::page::{Line, Page, Role};
use super::visible::{columns, cut, visible, wrap};
use crate::model::{Checked, Confidence, Diagnosis, Finding, Gain, Severity};

/// Findings that are written out.
const TOP: usize = 12;

/// A ceiling beyond this says only that the site is nearly everything.
const WORTH_NAMING: f64 = 100.0;

/// The width of the word in front of a finding's details.
const LABEL: usize = 13;

pub(super) fn print(diagnosis: &Diagnosis, page: &mut Page) {
    if diagnosis.findings.is_empty() {
        return print_checked(&diagnosis.checked, page);
    }
    page.section(
        "FINDINGS",
        "the most worthwhile first; gain is for the whole program",
    );
    // The same rule may fire for many sites; the change in Rust is worth reading once.
    let mut shown = BTreeSet::new();
    let findings = &diagnosis.findings;
    for (at, finding) in findings.iter().take(TOP).enumerate() {
        if at > 0 {
            page.blank();
        }
        let with_example = shown.insert(finding.rule);
        print_one(at + 1, finding, with_example, page);
    }
    let more = findings.len().saturating_sub(TOP) as u64;
    if more > 0 {
        page.blank();
        let text = format!(
            "  and {}; the JSON report has them",
            counted(more, "more finding")
        );
        page.push(Line::new().text(text));
    }
    print_checked(&diagnosis.checked, page);
}

/// A line for each rule that looked and found nothing.
fn print_checked(checked: &[Checked], page: &mut Page) {
    if checked.is_empty() {
        return;
    }
    page.section("CHECKED AND FOUND HEALTHY", "");
    for checked in checked {
        let text = format!("{} {}", checked.rule, checked.healthy);
        page.paragraph(Role::Dim, "  ", 2, &text);
    }
}

fn print_one(rank: usize, finding: &Finding, with_example: bool, page: &mut Page) {
    let (severity, place) = match finding.severity {
        Severity::Info => ("INFO", 0),
        Severity::Low => ("LOW", 1),
        Severity::Medium => ("MEDIUM", 2),
        Severity::High => ("HIGH", 3),
        Severity::Critical => ("CRITICAL", 4),
    };
    let symbol = page.glyphs.severities[place];
    let rule = format!("  {} {}", finding.rule, finding.name);
    let denied = if finding.denied { "  DENIED" } else { "" };
    let lead = format!("{rank:>2}. {symbol} {severity}  ");
    let taken = columns(&lead) + columns(&rule) + columns(denied);
    let room = page.width.saturating_sub(taken);
    let site = visible(&finding.site);
    page.push(
        Line::new()
            .text(format!("{rank:>2}. "))
            .with(
                Role::Severity(finding.severity),
                format!("{symbol} {severity}"),
            )
            .text("  ")
            .with(Role::Strong, cut(&site, room, page.glyphs.ellipsis))
            .with(Role::Dim, rule)
            .with(Role::Strong, denied),
    );
    page.paragraph(Role::Plain, "", 4, &visible(&finding.message));
    if let Some(gain) = gain(finding.gain) {
        detail(page, "Gain", Role::Strong, &gain);
    }
    if !finding.recommendation.is_empty() {
        detail(
            page,
            "Change",
            Role::Plain,
            &visible(&finding.recommendation),
        );
    }
    if let Some(location) = &finding.location {
        detail(page, "Where", Role::Plain, &visible(from_here(location)));
    }
    let numbers: Vec<String> = finding
        .evidence
        .iter()
        .map(|(name, &value)| evidence(name, value))
        .collect();
    let sure = match finding.confidence {
        Confidence::Low => "low confidence",
        Confidence::Medium => "medium confidence",
        Confidence::High => "high confidence",
    };
    if !numbers.is_empty() {
        let text = format!("{} ({sure})", numbers.join(", "));
        detail(page, "Evidence", Role::Dim, &visible(&text));
    }
    if with_example && !finding.example.is_empty() {
        example(page, &finding.example);
    }
}

/// Cuts off the current folder, from which people open files.
fn from_here(location: &str) -> &str {
    std::env::current_dir()
        .ok()
        .and_then(|here| below(location, here.to_str()?))
        .unwrap_or(location)
}

fn below<'l>(location: &'l str, folder: &str) -> Option<&'l str> {
    let inside = location.strip_prefix(folder)?;
    inside
        .strip_prefix(['/', '\\'])
        .filter(|_| folder.len() > 1)
}

fn detail(page: &mut Page, label: &str, role: Role, text: &str) {
    page.paragraph(role, &format!("    {label}"), LABEL, text);
}

fn gain(gain: Gain) -> Option<String> {
    let low = gain.low.map(f64::to_bits);
    // What is the same number is said once.
    let likely = gain.likely.filter(|likely| Some(likely.to_bits()) != low);
    let parts: Vec<String> = [
        ("at least", gain.low.map(floor)),
        ("likely", likely),
        (
            "at most",
            gain.bound.filter(|&most| most <= WORTH_NAMING).map(ceil),
        ),
    ]
    .into_iter()
    .filter_map(|(words, factor)| {
        let factor = factor.filter(|factor| factor.is_finite())?;
        Some(format!("{words} {}x", significant_factor(factor)))
    })
    .collect();
    (!parts.is_empty()).then(|| format!("{} as fast", parts.join(", ")))
}

/// Rounded to the digits that are shown, and never promising more than was found.
fn floor(factor: f64) -> f64 {
    (factor * 100.0 + 1e-6).floor() / 100.0
}

fn ceil(factor: f64) -> f64 {
    (factor * 100.0 - 1e-6).ceil() / 100.0
}

/// A factor keeps its decimals: `2.00x`, where a count would be `2`.
fn significant_factor(factor: f64) -> String {
    if (0.995..99.95).contains(&factor) {
        let decimals = if factor < 9.995 { 2 } else { 1 };
        format!("{factor:.decimals$}")
    } else {
        significant(factor)
    }
}

fn example(page: &mut Page, code: &str) {
    const INDENT: usize = 6;
    for line in code.lines() {
        let code = visible(line);
        let own = code.len() - code.trim_start_matches(' ').len();
        let indent = INDENT + own;
        let width = page.width.saturating_sub(indent + 4).max(20);
        for (at, piece) in wrap(&code, width).into_iter().enumerate() {
            let further = if at == 0 { 0 } else { 4 };
            let lead = " ".repeat(indent + further);
            page.push(Line::new().text(lead).with(Role::Dim, piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_current_folder_is_shown_from_there() {
        assert_eq!(below("/app/src/main.rs:7", "/app"), Some("src/main.rs:7"));
        assert_eq!(below("/application/main.rs:7", "/app"), None);
        assert_eq!(below("src/main.rs:7", "/app"), None);
        assert_eq!(below("/src/main.rs:7", "/"), None);
    }
}
