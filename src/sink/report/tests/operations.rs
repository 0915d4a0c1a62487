//! The tables of queries and requests.

use crate::model::{Diagnosis, Nanos, OperationRow, OperationTables, Profile};
use crate::sink::report::{TextOptions, report_json, report_text};

fn row(shape: &str, count: u64, mean_us: u64) -> OperationRow {
    OperationRow {
        shape: shape.to_owned(),
        site: "query".to_owned(),
        count,
        total: Nanos(count * mean_us * 1_000),
        mean: Nanos(mean_us * 1_000),
        p95: Nanos(mean_us * 2_000),
        share: 0.25,
        ..OperationRow::default()
    }
}

fn diagnosis() -> Diagnosis {
    let mut select = row("SELECT * FROM items WHERE order_id = ?", 1_500, 400);
    select.rows = Some(2.5);
    let tables = OperationTables {
        trees: 40,
        roots: 1_200,
        exact: false,
        whole: Nanos(2_400_000_000),
        database: vec![select, row("evil\n\u{1b}[31m", 3, 10)],
        network: (0..12)
            .map(|at| row(&format!("GET stock /{at}"), 1, 10))
            .collect(),
    };
    Diagnosis {
        operations: Some(tables),
        ..Diagnosis::default()
    }
}

#[test]
fn queries_and_requests_have_tables_that_say_what_they_rest_on() {
    let text = report_text(&Profile::default(), &diagnosis(), &TextOptions::default());
    let line = |start: &str| {
        let found = text
            .lines()
            .find(|line| line.trim_start().starts_with(start));
        found
            .unwrap_or_else(|| panic!("{start}: {text}"))
            .to_owned()
    };
    assert!(line("DATABASE OPERATIONS").contains("estimated from 40 of 1,200 roots"));
    let titles: Vec<String> = line("query")
        .split("  ")
        .map(str::trim)
        .map(str::to_owned)
        .collect();
    assert!(titles.contains(&"rows each".to_owned()), "{titles:?}");
    assert!(!titles.contains(&"failed".to_owned()), "{titles:?}");
    let select = line("SELECT");
    for cell in ["1,500", "400 us", "800 us", "600 ms", "25.0 %", "2.5"] {
        assert!(select.contains(cell), "{cell}: {select}");
    }
    assert!(!text.contains('\u{1b}'));
    assert!(text.contains("and 2 with less time"));
}

#[test]
fn the_json_report_has_all_rows() {
    let mut out = Vec::new();
    report_json(&Profile::default(), &diagnosis(), &mut out).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let tables = &json["operations"];
    assert_eq!(tables["network"].as_array().unwrap().len(), 12);
    assert_eq!(tables["database"][0]["total_ns"], 600_000_000);
    assert_eq!(tables["exact"], false);
    out.clear();
    report_json(&Profile::default(), &Diagnosis::default(), &mut out).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json.get("operations"), None);
}
