//! CTX401 to 403.

use super::requests::{Request, number, said, served, served_often};
use crate::diagnose::planted::Planted;
use crate::model::{OnCpu, Severity};

fn writes(count: u64, bytes: i64) -> Planted {
    let request =
        Request::new(2_000_000).calls((2, "put"), 0, 0, count, |_| vec![number("io.bytes", bytes)]);
    served(&[request])
}

#[test]
fn many_small_writes_are_found_and_buffered_ones_are_not() {
    let planted = writes(1_000, 16);
    let finding = planted.finding("CTX402");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("put", Severity::High)
    );
    // All but 16 of 65,536 parts of a second out of two.
    assert!(
        (finding.saving.unwrap() - 0.5 * (1.0 - 16.0 / 65_536.0)).abs() < 1e-6,
        "{finding:#?}"
    );
    assert!(finding.gain.low <= finding.gain.likely);
    assert!(finding.gain.likely <= finding.gain.bound);
    assert!(planted.findings("CTX401").is_empty());
    assert!(writes(999, 16).is_silent("CTX402"));
    assert!(writes(1_000, 4_096).is_silent("CTX402"));
}

#[test]
fn a_commit_per_row_is_found_also_with_an_operation_around_each() {
    let commit = |_| vec![said("db.query.text", "COMMIT")];
    let flat = |count| Request::new(100_000).calls((2, "end"), 0, 1_000, count, commit);
    let finding = served_often(3, &flat(20)).finding("CTX403");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("end", Severity::Medium)
    );
    assert!(
        (finding.saving.unwrap() - 0.19).abs() < 1e-6,
        "{finding:#?}"
    );
    assert!(finding.recommendation.contains("lost in a crash"));
    assert!(served_often(3, &flat(19)).is_silent("CTX403"));
    assert!(served_often(2, &flat(40)).is_silent("CTX403"));
    assert_eq!(served_often(1, &flat(50)).findings("CTX403").len(), 1);
    let rows = (0..30).fold(Request::new(100_000), |request, at: u64| {
        let from = at * 3_000;
        request.with((3, "row"), 0, (from, from + 2_900), &[]).with(
            (2, "end"),
            at as u32 * 2 + 1,
            (from, from + 1_000),
            &[said("cortex.kind", "fsync")],
        )
    });
    let finding = served_often(3, &rows).finding("CTX403");
    assert!(
        finding
            .message
            .starts_with("`root` waits for the disk up to 30 times")
    );
}

/// Ten reads that take `us` of 100 ms each, of whose samples so many ran.
fn reading(us: u64, samples: u64, running: u64) -> Planted {
    let fields = [number("io.bytes", 1_000_000)];
    let request = Request::new(100_000)
        .with((2, "read"), 0, (0, us), &fields)
        .edit(|span| span.kind = crate::model::TreeKind::Plain);
    let mut planted = served_often(10, &request);
    planted.profile.sites[1].stats.on_cpu = Some(OnCpu::new(samples, running));
    planted
}

#[test]
fn waiting_for_files_is_pointed_at_if_it_is_waiting() {
    let finding = reading(60_000, 50, 5).finding("CTX401");
    assert_eq!(finding.site, "read");
    assert!(
        finding
            .message
            .contains("60 % of the wall time is waiting for files")
    );
    assert!(
        finding.message.contains("at 17 MB/s"),
        "{}",
        finding.message
    );
    assert!(reading(49_000, 50, 5).is_silent("CTX401"));
    assert!(
        reading(60_000, 50, 20).is_silent("CTX401"),
        "the page cache had it"
    );
    let unknown = reading(60_000, 19, 0);
    assert!(unknown.findings("CTX401").is_empty());
    let data = unknown.finding("CTX903");
    assert!(
        data.message.contains("CTX401")
            || data.message.contains("io-bound")
            || data.message.contains("read"),
        "{}",
        data.message
    );
}
