//! Programs that wait for files.

use crate::case::{Case, Forms, plant};
use crate::program::{Body, Real, Step, block, repeat, span, us};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    plant("big-sequential-reads", "CTX401", Forms::Sync, big_reads),
    plant("one-byte-writes", "CTX402", Forms::Sync, one_byte_writes),
    plant("short-records", "CTX402", Forms::Sync, short_records),
    plant("sync-per-record", "CTX403", Forms::Sync, sync_per_record),
    plant("commit-per-row", "CTX403", Forms::Sync, commit_per_row),
];

fn big_reads(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    s.share = s.share.mul_add(0.5, 0.5);
    let cost = s.ms(6.0);
    let length = if s.fixed { cost / 20 } else { cost };
    s.requests(25, cost, |_, _| {
        let read = span(site)
            .set("cortex.kind", "io")
            .set("io.bytes", 4_000_000_usize);
        vec![read.run([block(length)])]
    })
}

fn small_writes(s: &mut Scene, requests: usize, writes: usize, bytes: usize) -> Body {
    let (outer, site) = (s.site(), s.site());
    s.planted(site);
    let each = us(12.0);
    s.requests(requests, each * writes as u32, |s, _| {
        let write = |bytes: usize, length| {
            span(site)
                .set("cortex.kind", "io")
                .set("io.bytes", bytes)
                .run([Step::Real(Real::Write(bytes), length)])
        };
        // The same bytes out of a buffer.
        let writes = match s.fixed {
            true => write(bytes * writes, each * 2),
            false => repeat(writes, |_| write(bytes, each)),
        };
        vec![span(outer).run([writes])]
    })
}

fn one_byte_writes(s: &mut Scene) -> Body {
    small_writes(s, 12, 300, 1)
}

fn short_records(s: &mut Scene) -> Body {
    small_writes(s, 20, 150, 90)
}

fn sync_per_record(s: &mut Scene) -> Body {
    let (outer, site) = (s.site(), s.site());
    s.planted(site);
    let (each, records) = (s.ms(1.0), 25);
    s.requests(6, each * records as u32, |s, _| {
        let sync = span(site)
            .set("cortex.kind", "fsync")
            .run([Step::Real(Real::Sync, each)]);
        let write = Step::Real(Real::Write(64), us(3.0));
        let records = match s.fixed {
            true => Step::Many(vec![repeat(records, |_| write.clone()), sync]),
            false => repeat(records, |_| Step::Many(vec![write.clone(), sync.clone()])),
        };
        vec![span(outer).run([records])]
    })
}

fn commit_per_row(s: &mut Scene) -> Body {
    let (outer, insert, commit) = (s.site(), s.site(), s.site());
    s.planted(commit);
    let (each, rows) = (s.ms(1.2), 24);
    s.requests(6, each * rows as u32, |s, _| {
        let commit = span(commit)
            .set("db.system.name", "sqlite")
            .set("db.query.text", "COMMIT")
            .run([block(each)]);
        let insert = |row: usize| {
            span(insert)
                .set("db.system.name", "sqlite")
                .set("db.query.text", format!("INSERT INTO log VALUES ({row})"))
                .run([block(us(30.0))])
        };
        let rows = match s.fixed {
            true => Step::Many(vec![repeat(rows, insert), commit]),
            false => repeat(rows, |row| Step::Many(vec![insert(row), commit.clone()])),
        };
        vec![span(outer).run([rows])]
    })
}
