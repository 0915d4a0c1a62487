//! What came out of one run, read from its JSON report, as anyone else would.

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Outcome {
    /// How long the program took.
    pub wall_ns: f64,
    /// How long its roots took together.
    pub roots_ns: f64,
    pub findings: Vec<Found>,
    /// The site with the most self time.
    pub hottest: Option<String>,
    /// The site with the longest total time.
    pub longest: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Found {
    pub rule: String,
    pub site: String,
    pub severity: Severity,
    pub saving: Option<f64>,
    pub gain: Gain,
    pub message: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Gain {
    pub low: Option<f64>,
    pub bound: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Deserialize)]
struct Report {
    wall_ns: f64,
    findings: Vec<Found>,
    sites: Vec<Row>,
    paths: Vec<Path>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    times: Times,
}

#[derive(Deserialize)]
struct Path {
    path: Vec<String>,
    #[serde(flatten)]
    times: Times,
}

#[derive(Deserialize)]
struct Times {
    self_ns: f64,
    busy_ns: f64,
    latency: Option<Value>,
}

impl Times {
    /// From open to close where the spans wait, else how long they were entered.
    fn total(&self) -> f64 {
        let latency = self
            .latency
            .as_ref()
            .and_then(|latency| latency["sum_ns"].as_f64());
        latency.unwrap_or(0.0).max(self.busy_ns)
    }
}

impl Outcome {
    pub fn read(report: &[u8]) -> Result<Outcome, serde_json::Error> {
        let report: Report = serde_json::from_slice(report)?;
        let most = |of: fn(&Times) -> f64| {
            let largest = report
                .sites
                .iter()
                .max_by(|one, other| of(&one.times).total_cmp(&of(&other.times)));
            largest.map(|row| row.name.clone())
        };
        let roots = report.paths.iter().filter(|path| path.path.len() == 1);
        Ok(Outcome {
            wall_ns: report.wall_ns,
            roots_ns: roots.map(|path| path.times.total()).sum(),
            hottest: most(|times| times.self_ns),
            longest: most(Times::total),
            findings: report.findings,
        })
    }

    /// How long it took in the measure in which gains are told: the latencies of roots where they overlap.
    pub fn whole_ns(&self, of_roots: bool) -> f64 {
        if of_roots {
            self.roots_ns
        } else {
            self.wall_ns
        }
    }

    pub fn roots_overlap(&self) -> bool {
        self.roots_ns > 1.5 * self.wall_ns
    }
}
