//! HTTP of the double.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::lock;
use super::resource::Target;
use super::store::{Refusal, Store};

type Shared = Arc<Mutex<Store>>;
type Parameters = HashMap<String, String>;

/// Between two bookmarks of a watch.
const BOOKMARK: Duration = Duration::from_secs(1);

/// How long a watch lasts that does not say.
const WATCH_SECONDS: u64 = 300;

/// Serves until its runtime ends.
pub(super) async fn run(listener: TcpListener, store: Shared) {
    let router = Router::new().fallback(answer).with_state(store);
    // It ends with the listener, when the double is stopped.
    let _ = axum::serve(listener, router).await;
}

async fn answer(
    State(store): State<Shared>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if uri.path() == "/version" {
        let version = json!({"major": "1", "minor": "36", "gitVersion": "double"});
        return json_response(StatusCode::OK, &version);
    }
    let Some(target) = Target::of(uri.path()) else {
        return refuse(&Refusal {
            code: 404,
            reason: "NotFound",
            message: "the server could not find the requested resource".to_owned(),
        });
    };
    let is_watch = parameters
        .get("watch")
        .is_some_and(|watch| watch != "false");
    let verb = match (&method, &target.name) {
        (&Method::GET, None) if is_watch => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, _) => "delete",
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    let subresource = if target.is_status { "/status" } else { "" };
    let asked = (
        verb.to_owned(),
        format!("{}{subresource}", target.resource.plural),
    );
    let is_refused = {
        let mut store = lock(&store);
        *store.requests.entry(asked.clone()).or_default() += 1;
        store.refused.contains(&asked)
    };
    if is_refused {
        return refuse(&forbidden(verb, &target));
    }
    let outcome = match verb {
        "watch" => return watch(store, target, &parameters),
        "list" => {
            wait_while_held(&store, target.resource.plural).await;
            list(&lock(&store), &target, &parameters)
        }
        "get" => lock(&store).get(&target),
        "delete" => lock(&store).delete(&target),
        _ => write(&mut lock(&store), verb, &target, &headers, &body),
    };
    match outcome {
        Ok(object) if verb == "create" => json_response(StatusCode::CREATED, &object),
        Ok(object) => json_response(StatusCode::OK, &object),
        Err(refusal) => refuse(&refusal),
    }
}

fn write(
    store: &mut Store,
    verb: &str,
    target: &Target,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Value, Refusal> {
    let object: Value = serde_json::from_slice(body).map_err(|error| Refusal {
        code: 400,
        reason: "BadRequest",
        message: error.to_string(),
    })?;
    let content = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    match (verb, content) {
        ("create", _) => store.create(target, object),
        ("update", _) => store.update(target, object),
        (_, Some("application/apply-patch+yaml")) => store.patch(target, &object, true),
        (_, Some("application/merge-patch+json" | "application/strategic-merge-patch+json")) => {
            store.patch(target, &object, false)
        }
        _ => Err(Refusal {
            code: 415,
            reason: "UnsupportedMediaType",
            message: format!("the double takes no patch of type {content:?}"),
        }),
    }
}

/// One page of a list. Pages are of one moment as long as nobody writes in between.
fn list(store: &Store, target: &Target, parameters: &Parameters) -> Result<Value, Refusal> {
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse().ok());
    let objects = store.list(target).into_iter();
    let mut objects = objects.filter(|object| is_selected(object, parameters));
    let start: usize = number("continue").unwrap_or(0);
    let limit = number("limit").filter(|limit| *limit > 0);
    let items: Vec<_> = objects
        .by_ref()
        .skip(start)
        .take(limit.unwrap_or(usize::MAX))
        .collect();
    let mut metadata = json!({"resourceVersion": store.version().to_string()});
    if objects.next().is_some() {
        metadata["continue"] = json!((start + items.len()).to_string());
    }
    Ok(json!({
        "apiVersion": target.resource.api_version(),
        "kind": format!("{}List", target.resource.kind),
        "metadata": metadata,
        "items": items,
    }))
}

/// A watch under way.
struct Watch {
    store: Shared,
    changes: watch::Receiver<u64>,
    target: Target,
    parameters: Parameters,
    version: u64,
    end: Instant,
    is_over: bool,
}

fn watch(store: Shared, target: Target, parameters: &Parameters) -> Response {
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse().ok());
    let seconds = number("timeoutSeconds").unwrap_or(WATCH_SECONDS);
    let changes = lock(&store).changes();
    let watch = Watch {
        version: number("resourceVersion").unwrap_or_else(|| lock(&store).version()),
        store,
        changes,
        target,
        parameters: parameters.clone(),
        end: Instant::now() + Duration::from_secs(seconds),
        is_over: false,
    };
    let lines = stream::unfold(watch, |mut watch| async move {
        let lines = watch.lines().await?;
        Some((Ok::<_, Infallible>(lines), watch))
    });
    let json = (header::CONTENT_TYPE, "application/json");
    ([json], Body::from_stream(lines)).into_response()
}

impl Watch {
    /// The next events, one a line; nothing at the end.
    async fn lines(&mut self) -> Option<String> {
        while !self.is_over {
            self.changes.borrow_and_update();
            let (events, now) = {
                let store = lock(&self.store);
                (store.events(&self.target, self.version), store.version())
            };
            let lines = match events {
                Ok(events) => {
                    self.version = self.version.max(now);
                    let seen = events.iter();
                    let seen = seen.filter(|event| is_selected(&event.object, &self.parameters));
                    seen.map(|event| line(event.kind, &event.object)).collect()
                }
                Err(refusal) => {
                    self.is_over = true;
                    line("ERROR", &status(&refusal))
                }
            };
            if !lines.is_empty() {
                return Some(lines);
            }
            if Instant::now() >= self.end {
                return None;
            }
            let pause = (Instant::now() + BOOKMARK).min(self.end);
            if timeout_at(pause, self.changes.changed()).await.is_err() {
                return Some(self.bookmark());
            }
        }
        None
    }

    fn bookmark(&self) -> String {
        let resource = self.target.resource;
        let object = json!({
            "apiVersion": resource.api_version(),
            "kind": resource.kind,
            "metadata": {"resourceVersion": self.version.to_string()},
        });
        line("BOOKMARK", &object)
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

async fn wait_while_held(store: &Shared, plural: &str) {
    let mut changes = lock(store).changes();
    while lock(store).held.contains(plural) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Whether an object fits `fieldSelector` (names alone) and `labelSelector` (equality alone).
fn is_selected(object: &Value, parameters: &Parameters) -> bool {
    let metadata = &object["metadata"];
    let terms = |selector: &str| -> Vec<(String, String)> {
        let text = parameters.get(selector).cloned().unwrap_or_default();
        let terms = text.split(',').filter_map(|term| term.split_once('='));
        terms
            .map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned()))
            .collect()
    };
    let mut fields = terms("fieldSelector").into_iter();
    let mut labels = terms("labelSelector").into_iter();
    fields.all(|(field, value)| match field.as_str() {
        "metadata.name" => metadata["name"] == value,
        "metadata.namespace" => metadata["namespace"] == value,
        _ => false,
    }) && labels.all(|(label, value)| metadata["labels"][&label] == value)
}

fn forbidden(verb: &str, target: &Target) -> Refusal {
    let group = target.resource.group;
    let subresource = if target.is_status { "/status" } else { "" };
    let plural = format!("{}{subresource}", target.resource.plural);
    let place = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    Refusal {
        code: 403,
        reason: "Forbidden",
        message: format!(
            "{plural} is forbidden: User \"double\" cannot {verb} resource \"{plural}\" in API \
             group \"{group}\" {place}"
        ),
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_response(code, &status(refusal))
}

fn status(refusal: &Refusal) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "code": refusal.code,
        "reason": refusal.reason,
        "message": refusal.message,
    })
}

fn json_response(code: StatusCode, body: &Value) -> Response {
    let json = (header::CONTENT_TYPE, "application/json");
    (code, [json], body.to_string()).into_response()
}
