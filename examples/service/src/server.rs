//! The service: two routes to the same answer.

use std::io::Write;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower_http::trace::TraceLayer;
use tracing::field::Empty;
use tracing::{Span, error, info, info_span, instrument};
use tracing_cortex::{CortexSpanExt, TraceContext};

use crate::Failure;
use crate::shop::{Order, Shop};

/// Serves until the process is told to end; prints its base URL as the first line.
pub(crate) async fn run(addr: &str, until_stdin_closes: bool) -> Result<(), Failure> {
    let shop = Shop::open().await?;
    let listener = TcpListener::bind(addr).await?;
    println!("http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;

    let trace = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_request(())
        .on_response(|response: &Response<_>, _: Duration, span: &Span| {
            span.record("http.response.status_code", response.status().as_u16());
        });
    let app = Router::new()
        .route("/orders/good", get(good))
        .route("/orders/n-plus-1", get(n_plus_1))
        .layer(trace)
        .with_state(shop.clone());
    axum::serve(listener, app)
        .with_graceful_shutdown(told_to_end(until_stdin_closes))
        .await?;
    shop.close().await;
    Ok(())
}

/// The span of a request, under the span of the client that sent it.
fn request_span(request: &Request<Body>) -> Span {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map(MatchedPath::as_str);
    let method = request.method().as_str();
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let span = info_span!(
        "request",
        otel.name = name,
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        url.path = request.uri().path(),
        url.scheme = "http",
    );
    if let Some(client) = TraceContext::from_headers(|name| joined(request.headers(), name)) {
        // A span that nobody records has no parent to set; the request is served all the same.
        let _ = span.set_remote_parent(&client);
    }
    span
}

/// Several headers of one name are one list.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(name).iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

#[instrument(skip_all)]
async fn good(State(shop): State<Shop>) -> Result<Json<Vec<Order>>, Problem> {
    let orders = shop.orders_with_items().await?;
    info!(orders = orders.len(), "read");
    Ok(Json(orders))
}

/// What a loop over the result of a query easily becomes: one more query for each order.
#[instrument(skip_all)]
async fn n_plus_1(State(shop): State<Shop>) -> Result<Json<Vec<Order>>, Problem> {
    let mut orders = shop.orders().await?;
    for order in &mut orders {
        order.items = shop.items_of(order.id).await?;
    }
    info!(orders = orders.len(), "read");
    Ok(Json(orders))
}

struct Problem(sqlx::Error);

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Problem {
        Problem(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        error!(error = %self.0, "cannot read the orders");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

async fn told_to_end(until_stdin_closes: bool) {
    let (closed, stdin) = oneshot::channel::<()>();
    let input_closed = async {
        if until_stdin_closes {
            // Not tokio's stdin, for which the runtime waits at its end.
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                drop(closed);
            });
            let _ = stdin.await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = input_closed => {}
        () = interrupted() => {}
        () = terminated() => {}
    }
}

/// Ctrl-C; pending forever where it cannot be waited for.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}
