//! The admin API: HTTP and JSON on a unix socket that only its owner may use.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use tracing::error;

use super::report::Report;
use crate::model::peer_report::{PeersReport, RoutesReport};
use crate::model::status::{MembersStatus, Status};
use crate::net::unix_http::Listener;

/// Serves until dropped.
pub async fn run(listener: Listener, report: Arc<Report>) {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/members", get(members))
        .route("/v1/peers", get(peers))
        .route("/v1/routes", get(routes))
        .with_state(report);
    if let Err(error) = axum::serve(listener, router).await {
        error!("admin API: {error}");
    }
}

async fn status(State(report): State<Arc<Report>>) -> Json<Status> {
    Json(tokio::task::block_in_place(|| report.status()))
}

async fn members(State(report): State<Arc<Report>>) -> Json<MembersStatus> {
    Json(report.members())
}

async fn peers(State(report): State<Arc<Report>>) -> Json<PeersReport> {
    Json(report.peers())
}

async fn routes(State(report): State<Arc<Report>>) -> Json<RoutesReport> {
    Json(tokio::task::block_in_place(|| report.routes()))
}
