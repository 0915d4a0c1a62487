//! A client that visits the service: each visit is one trace.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tracing::field::Empty as Unknown;
use tracing::{Instrument, Span, info, info_span, instrument};
use tracing_cortex::CortexSpanExt;

use crate::Failure;
use crate::shop::ORDERS;

type Http = Client<HttpConnector, Empty<Bytes>>;

/// Visits the service at `base` and prints the trace of each visit.
pub(crate) async fn run(base: &str, visits: u32) -> Result<(), Failure> {
    let http = Client::builder(TokioExecutor::new()).build_http();
    for number in 1..=visits {
        let trace = visit(&http, base, number).await?;
        println!("visit {number}: trace {trace}");
    }
    Ok(())
}

/// Asks both routes; returns the id of the trace to look up.
#[instrument(skip(http), err)]
async fn visit(http: &Http, base: &str, number: u32) -> Result<String, Failure> {
    let good = ask(http, format!("{base}/orders/good").parse()?).await?;
    let slow = ask(http, format!("{base}/orders/n-plus-1").parse()?).await?;
    if good != slow || good.as_array().map(Vec::len) != Some(ORDERS as usize) {
        return Err("the two routes do not answer the same".into());
    }
    info!(orders = ORDERS, "both routes agree");
    let context = Span::current().trace_context();
    Ok(context.map_or_else(
        || "(none)".to_owned(),
        |context| context.trace_id().to_string(),
    ))
}

async fn ask(http: &Http, url: Uri) -> Result<Value, Failure> {
    let span = info_span!(
        "GET",
        otel.kind = "client",
        http.request.method = "GET",
        http.response.status_code = Unknown,
        server.address = url.host(),
        server.port = url.port_u16(),
        url.full = %url,
    );
    async {
        let mut request = Request::get(url).body(Empty::new())?;
        Span::current().inject(|name, value| {
            if let Ok(value) = HeaderValue::from_str(value) {
                let name = HeaderName::from_static(name);
                request.headers_mut().insert(name, value);
            }
        });
        let response = http.request(request).await?;
        let status = response.status();
        Span::current().record("http.response.status_code", status.as_u16());
        let body = response.into_body().collect().await?.to_bytes();
        if status != StatusCode::OK {
            return Err(format!("the service answered {status}").into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
    .instrument(span)
    .await
}
