//! The resource readings, each with a small graph.

use super::number::quantity;
use super::page::{Page, Role};
use super::sparkline::sparkline;
use super::table::Table;
use super::visible::visible;
use crate::model::Profile;

/// Marks in a graph.
const GRAPH: usize = 32;

pub(super) fn print(profile: &Profile, page: &mut Page) {
    if profile.resources.iter().all(|series| series.samples == 0) {
        return;
    }
    page.section("RESOURCES", "graphs run from zero to the maximum");
    let mut table = Table::new(&["resource", "mean", "max", "over time"]).last_is_text();
    for series in profile.resources.iter().filter(|series| series.samples > 0) {
        let points: Vec<f64> = series.points.iter().map(|point| point.max).collect();
        table.row(vec![
            (Role::Plain, visible(&series.name).into_owned()),
            (Role::Plain, quantity(series.mean, series.unit)),
            (Role::Plain, quantity(series.max, series.unit)),
            (
                Role::Dim,
                sparkline(&points, GRAPH.min(page.width / 3), page.glyphs.spark),
            ),
        ]);
    }
    table.print(page);
}
