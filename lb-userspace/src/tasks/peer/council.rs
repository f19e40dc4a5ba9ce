//! Lets the maps wait for other nodes: what they are about to forget is pushed
//! first, what other nodes remember is fetched first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::plan::layout::{Heritage, Layout};

/// How long a change waits for pushed flows to be acknowledged. They go on being sent behind it; who comes
/// earlier is located.
pub(super) const PUSH: Duration = Duration::from_millis(100);
/// How long a change waits for history, that is, a node that joins before it serves.
pub(super) const FETCH: Duration = Duration::from_secs(2);

/// The maps are about to change.
#[derive(Debug)]
pub struct Change {
    /// What they hold.
    pub(super) before: Arc<Layout>,
    /// What they are to hold.
    pub(super) after: Arc<Layout>,
    /// Takes what peers remember of frontends that are new.
    pub(super) answer: oneshot::Sender<Vec<Heritage>>,
}

/// Where the peer task is told of changes.
#[derive(Clone, Debug)]
pub struct Council(mpsc::Sender<Change>);

/// A council, and what the peer task reads.
pub fn channel() -> (Council, mpsc::Receiver<Change>) {
    let (sender, receiver) = mpsc::channel(1);
    (Council(sender), receiver)
}

impl Council {
    /// Announces a change and waits until it may be made; what is to be remembered by then. It waits no longer
    /// than peers may take.
    pub async fn consult(&self, before: &Arc<Layout>, after: &Arc<Layout>) -> Vec<Heritage> {
        let (answer, answered) = oneshot::channel();
        let change = Change {
            before: Arc::clone(before),
            after: Arc::clone(after),
            answer,
        };
        let consultation = async {
            self.0.send(change).await.ok()?;
            answered.await.ok()
        };
        let heritage = timeout(FETCH + PUSH, consultation).await;
        heritage.ok().flatten().unwrap_or_default()
    }
}
