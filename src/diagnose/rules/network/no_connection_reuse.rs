//! CTX422: a new connection for nearly every request.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Measure, Price, Scales, TreeCalls};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Site, TreeSpan};

pub(super) const RULE: Rule = Rule {
    id: "CTX422",
    name: "no-connection-reuse",
    healthy: "connections are used again",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: a client, and with it a connection, for each request
let body = reqwest::Client::new().get(url).send().await?;

// after: one for the program; it keeps connections open
static CLIENT: std::sync::OnceLock<reqwest::Client> = std::sync::OnceLock::new();
let body = CLIENT.get_or_init(reqwest::Client::new).get(url).send().await?;
";

/// The requests to one host.
#[derive(Debug, Default)]
struct Host<'a> {
    requests: Measure,
    connects: Measure,
    scales: Scales<'a>,
    by_site: BTreeMap<u32, (f64, Option<&'a Site>)>,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.network;
    let hosts = hosts(evidence);
    let mut outcome = Outcome {
        looked: hosts.values().any(|host| host.connects.seen > 0),
        ..Outcome::default()
    };
    for (seed, (name, host)) in hosts.iter().enumerate() {
        let connecting = host.connects.count / host.requests.count.max(1e-9);
        let time = host.connects.total / host.requests.total.max(1.0);
        if !host.requests.is_enough(thresholds.connecting_calls)
            || connecting < thresholds.connecting_share
            || time < thresholds.connecting_time
        {
            continue;
        }
        let price = Price::of(evidence, seed as u64, &host.scales, &host.scales);
        // What is kept open is opened once.
        let kept = calls::share_of_whole(evidence, host.connects.mean().0 as f64);
        let price = price.map(|price| price.without(kept));
        if let Some(price) = price.filter(Price::is_worth_it) {
            outcome
                .found
                .extend(found(evidence, name, host, &price, (connecting, time)));
            outcome.claims.extend(host.scales.claims());
        }
    }
    outcome
}

/// Returns the requests by host; empty where it is not known.
fn hosts<'a>(evidence: &Evidence<'a>) -> BTreeMap<String, Host<'a>> {
    let mut hosts: BTreeMap<String, Host<'a>> = BTreeMap::new();
    for (tree, call) in evidence.calls.of_kinds(&[Kind::Http, Kind::Rpc]) {
        let span = tree.span(call);
        let host = hosts
            .entry(calls::host(span).unwrap_or_default())
            .or_default();
        host.requests.add_length(span.length(), tree.weighted());
        if let Some(connect) = opens(tree, call.index, &mut host.scales) {
            host.connects.add_length(connect, tree.weighted());
            let of_site = host.by_site.entry(span.site.id.0).or_default();
            of_site.0 += connect.0 as f64 * tree.roots;
            of_site.1 = Some(&span.site);
        }
    }
    hosts
}

/// Returns how long a request opened connections, if it did, and notes what vanishes without.
fn opens<'a>(tree: &TreeCalls<'a>, request: usize, scales: &mut Scales<'a>) -> Option<Nanos> {
    let spans = &tree.tree.spans;
    let span = &spans[request];
    if let Some(connect) = calls::amount(span, "net.connect_ns") {
        let connect = Nanos(connect as u64).min(span.length());
        if connect == Nanos::ZERO {
            return None;
        }
        scales.take_off(tree.weighted(), request, connect);
        return Some(connect);
    }
    let mut sum = Nanos::ZERO;
    let inside = (request + 1..spans.len()).take_while(|&at| spans[at].start <= span.end);
    for at in inside.filter(|&at| is_connect(&spans[at])) {
        let mut above = std::iter::successors(calls::parent(tree.tree, at), |&above| {
            calls::parent(tree.tree, above)
        });
        // Of a handshake inside a connect the outer one counts.
        let part = above
            .by_ref()
            .take_while(|&above| above > request)
            .any(|above| is_connect(&spans[above]));
        let mut around = std::iter::successors(calls::parent(tree.tree, at), |&above| {
            calls::parent(tree.tree, above)
        });
        if !part && around.any(|above| above == request) {
            sum = sum.saturating_add(spans[at].length());
            scales.set(tree.weighted(), at, 0.0);
        }
    }
    (sum > Nanos::ZERO).then_some(sum)
}

fn is_connect(span: &TreeSpan) -> bool {
    let said = fields::text(span, "cortex.kind");
    let name = said.unwrap_or(span.site.name);
    let names = [
        "connect",
        "tls",
        "tls_connect",
        "tls_handshake",
        "handshake",
        "tcp_connect",
    ];
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn found(
    evidence: &Evidence<'_>,
    name: &str,
    host: &Host<'_>,
    price: &Price,
    (connecting, time): (f64, f64),
) -> Option<Found> {
    let sites = host.by_site.values();
    let largest = sites.max_by(|one, other| one.0.total_cmp(&other.0));
    let site = largest.and_then(|(_, site)| *site)?;
    let connects = &host.connects;
    let mut finding = RULE.about(site);
    price.fill(&mut finding, evidence, Some(price.change.share));
    finding.share = Some(calls::share_of_whole(evidence, connects.total));
    finding.confidence = Confidence::High;
    calls::figures(&mut finding, connects);
    finding.evidence.extend([
        ("requests", host.requests.count),
        ("connecting_share", connecting),
        ("connecting_time_share", time),
    ]);
    let to = match name {
        "" => "one host".to_owned(),
        name => format!("`{name}`"),
    };
    let (part, each) = (wording::percent(connecting.min(1.0)), connects.mean());
    let of_time = wording::percent(time.min(1.0));
    let seen = wording::count(host.requests.seen, "request");
    let gain = calls::gain_words(&finding, evidence, "Keeping connections open");
    finding.message = format!(
        "{part} of the requests to {to} open a new connection, {each} each and {of_time} of their time ({seen} seen).{gain}"
    );
    finding.recommendation = format!(
        "Share one client, which keeps connections open, and read each answer to its end so that its connection can be used \
         again. Where a load balancer must see new connections, limit how long they live. Afterwards hardly a request to \
         {to} may open one."
    );
    finding.example = EXAMPLE.to_owned();
    let share = wording::percent(price.change.share);
    let lead = format!(
        "{part} of the requests to {to} open a new connection; without that {share} of {} would vanish.",
        evidence.whole.words()
    );
    Some(Found { finding, lead })
}
