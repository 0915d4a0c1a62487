//! Where the threads' time went: one bar by site, one by what the threads did.

use super::number::{counted, permille};
use super::page::{Line, Page, Role};
use super::sites::labels;
use super::visible::{columns, cut};
use crate::model::{Nanos, Profile};

/// Sites with a part of their own in the bar; more cannot be told apart without colour.
const TOP: usize = 4;

/// The place in the page's glyphs of what is not a top site.
const OTHER_SITES: usize = TOP;
const LAYER: usize = TOP + 1;
const UNCOVERED: usize = TOP + 2;

/// What every share in the report is a share of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    /// The threads' time; never less than what is accounted for.
    pub(super) time: Nanos,
    layer: Nanos,
    /// Inside spans, but neither a site's own nor the layer's.
    rest: Nanos,
}

impl Whole {
    pub(super) fn of(profile: &Profile) -> Whole {
        let own: Nanos = profile.sites.iter().map(|site| site.stats.self_time).sum();
        let layer: Nanos = profile.sites.iter().map(|site| site.stats.overhead).sum();
        let known = own
            .saturating_add(layer)
            .saturating_add(profile.split.uncovered);
        let time = profile.split.thread_time.max(known);
        Whole {
            time,
            layer,
            rest: time.saturating_sub(known),
        }
    }

    pub(super) fn share(&self, part: Nanos) -> f64 {
        part.share_of(self.time)
    }
}

/// One part of a bar.
#[derive(Debug, Clone)]
struct Part {
    glyph: usize,
    label: String,
    time: Nanos,
}

pub(super) fn print(profile: &Profile, whole: &Whole, page: &mut Page) {
    if whole.time == Nanos::ZERO {
        return;
    }
    let threads: u64 = profile
        .threads
        .iter()
        .map(|row| u64::from(row.threads))
        .sum();
    let caption = match threads {
        0 => format!("{} of thread time", whole.time),
        _ => format!(
            "{} of thread time on {}",
            whole.time,
            counted(threads, "thread")
        ),
    };
    page.section("WHERE THE TIME WENT", &caption);
    let parts = by_site(profile, whole);
    let shares = shares(&parts, whole.time);
    bar(&parts, page);
    legend(&parts, &shares, page);
    let uncovered = parts
        .iter()
        .zip(&shares)
        .find(|(part, _)| part.glyph == UNCOVERED)
        .map_or(0, |(_, &share)| share);
    by_state(profile, whole, uncovered, page);
}

fn by_site(profile: &Profile, whole: &Whole) -> Vec<Part> {
    let labels = labels(profile);
    let time = |at: usize| {
        profile
            .sites
            .get(at)
            .map_or(Nanos::ZERO, |site| site.stats.self_time)
    };
    let mut parts: Vec<Part> = labels
        .into_iter()
        .take(TOP)
        .enumerate()
        .map(|(at, label)| Part {
            glyph: at,
            label,
            time: time(at),
        })
        .collect();
    let others: Nanos = profile
        .sites
        .iter()
        .skip(TOP)
        .map(|site| site.stats.self_time)
        .sum();
    let others = others.saturating_add(whole.rest);
    let more = profile.sites.len().saturating_sub(TOP) as u64;
    let other_sites = match more {
        0 => "of no known site".to_owned(),
        _ => counted(more, "other site"),
    };
    // Without other sites this is what rounding leaves.
    let others = if more == 0 && whole.share(others) < 0.0005 {
        Nanos::ZERO
    } else {
        others
    };
    for (glyph, label, time) in [
        (OTHER_SITES, other_sites, others),
        (LAYER, "the layer's own cost".to_owned(), whole.layer),
        (
            UNCOVERED,
            "not covered by spans".to_owned(),
            profile.split.uncovered,
        ),
    ] {
        if time > Nanos::ZERO {
            parts.push(Part { glyph, label, time });
        }
    }
    parts
}

/// Returns the parts' shares in tenths of a per cent, which add up to exactly 100 %.
///
/// Each is rounded for itself, so that it reads the same in the tables; what rounding leaves goes to the part that is
/// no single site and was rounded the furthest to the other side, or else to the largest.
fn shares(parts: &[Part], whole: Nanos) -> Vec<u64> {
    let mut shares: Vec<u64> = parts
        .iter()
        .map(|part| (part.time.share_of(whole) * 1000.0).round() as u64)
        .collect();
    let left = 1000 - shares.iter().map(|&share| share as i64).sum::<i64>();
    let exact = |at: usize| parts[at].time.share_of(whole) * 1000.0;
    let could_take = |at: usize| (exact(at) - shares[at] as f64) * left as f64;
    let takes_rest = (0..parts.len())
        .filter(|&at| parts[at].glyph >= OTHER_SITES && shares[at] as i64 + left >= 0)
        .max_by(|&one, &other| could_take(one).total_cmp(&could_take(other)))
        .or_else(|| (0..parts.len()).max_by_key(|&at| parts[at].time));
    if let Some(at) = takes_rest {
        shares[at] = shares[at].saturating_add_signed(left);
    }
    shares
}

/// Draws the parts by their ends, so that rounding never makes the bar too long.
fn bar(parts: &[Part], page: &mut Page) {
    let room = page.width.saturating_sub(4);
    let total: Nanos = parts.iter().map(|part| part.time).sum();
    let mut line = Line::new().text("  ");
    let mut drawn = 0;
    let mut end = Nanos::ZERO;
    for part in parts {
        end = end.saturating_add(part.time);
        let to = (end.share_of(total) * room as f64).round() as usize;
        let glyph = page.glyphs.parts[part.glyph];
        let piece: String = std::iter::repeat_n(glyph, to.saturating_sub(drawn)).collect();
        line = line.with(Role::Part(part.glyph), piece);
        drawn = to.max(drawn);
    }
    page.push(line);
}

fn legend(parts: &[Part], shares: &[u64], page: &mut Page) {
    let room = page.width.saturating_sub(30);
    let widest = parts
        .iter()
        .map(|part| columns(&part.label))
        .max()
        .unwrap_or(0);
    let name = widest.min(room);
    for (part, share) in parts.iter().zip(shares) {
        let glyph = page.glyphs.parts[part.glyph];
        let label = cut(&part.label, name, page.glyphs.ellipsis);
        let pad = name.saturating_sub(columns(&label));
        page.push(
            Line::new()
                .text("  ")
                .with(Role::Part(part.glyph), format!("{glyph}{glyph}"))
                .text(format!(" {label}{}", " ".repeat(pad)))
                .with(Role::Strong, format!("{:>10}", permille(*share)))
                .text(format!("{:>11}", part.time.to_string())),
        );
    }
}

/// The same time, by what the threads did. Only known where the sampler saw enough.
fn by_state(profile: &Profile, whole: &Whole, uncovered: u64, page: &mut Page) {
    let Some(waiting) = profile.split.waiting else {
        return;
    };
    let inside = whole.time.saturating_sub(profile.split.uncovered);
    let waiting = waiting.min(inside);
    let tenths = |time: Nanos| (whole.share(time) * 1000.0).round() as u64;
    let waiting = tenths(waiting);
    let running = 1000_u64.saturating_sub(waiting + uncovered);
    let mut texts = vec![
        format!("on a CPU or ready for one {}", permille(running)),
        format!("waiting {}", permille(waiting)),
    ];
    if uncovered > 0 {
        texts.push(format!("not covered {}", permille(uncovered)));
    }
    let text = format!("Of that time, by samples: {}.", texts.join(", "));
    page.paragraph(Role::Plain, "  ", 2, &text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_add_up_to_the_whole(times in prop::collection::vec(0_u64..1 << 40, 1..8)) {
            let total: u64 = times.iter().sum();
            prop_assume!(total > 0);
            let parts: Vec<Part> = times
                .iter()
                .enumerate()
                .map(|(glyph, &time)| Part { glyph, label: String::new(), time: Nanos(time) })
                .collect();
            let shares = shares(&parts, Nanos(total));
            prop_assert_eq!(shares.iter().sum::<u64>(), 1000);
            for (part, share) in parts.iter().zip(shares) {
                let exact = part.time.share_of(Nanos(total)) * 1000.0;
                prop_assert!((exact - share as f64).abs() <= 4.0);
            }
        }
    }
}
