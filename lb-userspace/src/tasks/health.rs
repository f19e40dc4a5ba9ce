//! `/healthz` and `/readyz` for whoever supervises the agent.

use std::io;
use std::net::Ipv4Addr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;

use super::datapath::Programmed;

/// Why health cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to listen on 127.0.0.1:{port} for health checks; choose another --health-port, or 0 for none"
)]
pub struct BindError {
    /// The port.
    pub port: u16,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// Listens on loopback.
///
/// # Errors
/// The port is taken.
pub async fn bind(port: u16) -> Result<TcpListener, BindError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|source| BindError { port, source })
}

/// Serves until dropped: healthy while it answers, ready once the programs have been given their tables.
pub async fn run(listener: TcpListener, programmed: watch::Receiver<Option<Programmed>>) {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(programmed);
    if let Err(error) = axum::serve(listener, router).await {
        error!("health: {error}");
    }
}

async fn ready(
    State(programmed): State<watch::Receiver<Option<Programmed>>>,
) -> (StatusCode, &'static str) {
    match &*programmed.borrow() {
        Some(programmed) if programmed.failure.is_none() => (StatusCode::OK, "ok\n"),
        Some(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "maps or programs are not as they should be; see `torline status`\n",
        ),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no tables yet\n"),
    }
}
