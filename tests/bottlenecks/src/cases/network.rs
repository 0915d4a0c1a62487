//! Programs that wait for other programs.

use crate::case::{Case, Forms, plant};
use crate::program::{
    Body, How, Real, Site, SpanStep, Step, block, body, repeat, span, together, wait,
};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    plant("far-away-service", "CTX420", Forms::Either, far_away),
    plant("request-per-item", "CTX421", Forms::Async, request_per_item),
    plant(
        "request-per-item-of-a-thread",
        "CTX421",
        Forms::Sync,
        request_per_item,
    ),
    plant(
        "real-requests-per-item",
        "CTX421",
        Forms::Sync,
        real_requests,
    ),
    plant(
        "connection-per-request",
        "CTX422",
        Forms::Sync,
        connection_per_request,
    ),
    plant("two-megabytes", "CTX423", Forms::Either, large_body),
];

fn get(site: Site, host: &str, route: &str) -> SpanStep {
    span(site)
        .set("otel.kind", "client")
        .set("http.request.method", "GET")
        .set("server.address", host)
        .set("http.route", route)
}

fn waits(s: &Scene, length: std::time::Duration) -> Step {
    match s.tasks {
        true => wait(length),
        false => block(length),
    }
}

fn far_away(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    s.share = s.share.mul_add(0.5, 0.5);
    let (cost, host) = (s.ms(9.0), s.name());
    let length = if s.fixed { cost / 20 } else { cost };
    s.requests(20, cost, |s, _| {
        let length = s.rng.about(length, 0.2);
        vec![get(site, &host, "/rates").run([waits(s, length)])]
    })
}

fn per_item(s: &mut Scene, call: impl Fn(&Scene, std::time::Duration) -> Step) -> Body {
    let (outer, site) = (s.site(), s.site());
    s.planted(site);
    let (each, items, host) = (s.ms(2.5), 14, s.name());
    s.requests(8, each * items as u32, |s, _| {
        let ask = || get(site, &host, "/items/{id}").run([call(s, each)]);
        let all = match (s.fixed, s.tasks) {
            // One request for all of them, or eight at a time.
            (true, false) => ask(),
            (true, true) => repeat(2, |_| {
                together(How::Join, (0..items / 2).map(|_| body([ask()])))
            }),
            (false, _) => repeat(items, |_| ask()),
        };
        vec![span(outer).run([all])]
    })
}

fn request_per_item(s: &mut Scene) -> Body {
    per_item(s, waits)
}

/// Over a socket, where the live tier has a server.
fn real_requests(s: &mut Scene) -> Body {
    per_item(s, |_, length| Step::Real(Real::Get(2_000), length))
}

fn connection_per_request(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    let (cost, host) = (s.ms(3.0), s.name());
    s.requests(60, cost, |s, number| {
        let ask = get(site, &host, "/price");
        let connects = !s.fixed || number == 0;
        let answer = block(cost / 3);
        let step = match connects {
            true => ask
                .set("net.connect_ns", cost.as_nanos() as i64)
                .run([block(cost), answer]),
            false => ask.run([answer]),
        };
        vec![step]
    })
}

fn large_body(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    let (cost, host) = (crate::program::ms(130.0 * s.scale.max(1.0)), s.name());
    let (length, bytes) = match s.fixed {
        true => (cost / 20, 20_000_usize),
        false => (cost, 2_000_000),
    };
    s.requests(4, cost, |s, _| {
        let ask = get(site, &host, "/export").set("http.response.body.size", bytes);
        vec![ask.run([waits(s, length)])]
    })
}
