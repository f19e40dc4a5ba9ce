//! The admin API: HTTP and JSON on a unix socket that only its owner may use.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use tracing::error;

use super::report::Report;
use super::switches::Switches;
use crate::model::peer_report::{PeersReport, RoutesReport};
use crate::model::status::{MembersStatus, Status};
use crate::model::virtual_switch::{SwitchAnswer, SwitchRefusal, SwitchRequest, SwitchesReport};
use crate::net::unix_http::Listener;

/// Serves until dropped.
pub async fn run(listener: Listener, report: Arc<Report>, switches: Arc<Switches>) {
    let of_switches = Router::new()
        .route("/v1/vswitches", get(vswitches).post(change_vswitch))
        .with_state(switches);
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/members", get(members))
        .route("/v1/peers", get(peers))
        .route("/v1/routes", get(routes))
        .route("/v1/capture", get(capture))
        .with_state(report)
        .merge(of_switches);
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

/// Whose messages are asked for.
#[derive(Deserialize)]
struct CaptureQuery {
    peer: String,
    /// Whether to go on with those to come.
    #[serde(default)]
    follow: bool,
}

/// MRT (RFC 6396), a chunk a record or more.
async fn capture(State(report): State<Arc<Report>>, Query(query): Query<CaptureQuery>) -> Response {
    let Some(tap) = report.tap(&query.peer) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if !query.follow {
        return tap.recent().into_response();
    }
    let (recent, following) = tap.follow();
    let to_come = stream::unfold(following, async |mut following| {
        Some((following.next().await?, following))
    });
    let chunks = stream::once(async { recent }).chain(to_come);
    Body::from_stream(chunks.map(Ok::<_, Infallible>)).into_response()
}

async fn vswitches(State(switches): State<Arc<Switches>>) -> Json<SwitchesReport> {
    Json(tokio::task::block_in_place(|| switches.report()))
}

async fn change_vswitch(
    State(switches): State<Arc<Switches>>,
    Json(request): Json<SwitchRequest>,
) -> Result<Json<SwitchAnswer>, (StatusCode, Json<SwitchRefusal>)> {
    let refused = |refusal| (StatusCode::CONFLICT, Json(refusal));
    switches.act(&request).await.map(Json).map_err(refused)
}
