//! What BFD says of the path to the peer, and what that means to the session.

use std::future::{Future, pending};

use tokio::sync::watch;

use super::{Driver, clock};
use crate::model::bfd::BfdReport;

/// What BFD says of the path to the peer.
pub(super) struct Path {
    report: watch::Receiver<BfdReport>,
    /// Losses that the session knows of.
    losses: u64,
}

impl Path {
    pub(super) const fn new(report: watch::Receiver<BfdReport>) -> Self {
        Self { report, losses: 0 }
    }

    /// Waits for news.
    pub(super) async fn changed(&mut self) {
        if self.report.changed().await.is_err() {
            pending().await
        }
    }
}

impl Driver {
    /// RFC 5882 §4.3: a path that was there and is lost ends the session; a path that BFD never saw does not.
    pub(super) fn follow_path(&mut self) {
        let report = self.path.report.borrow_and_update().clone();
        if report.losses > self.path.losses {
            self.path.losses = report.losses;
            self.newcomer = None;
            self.main.session.handle_bfd_down(clock());
        }
        self.publish
            .send_modify(|status| status.bfd = report.status);
    }

    /// Whether the session may not begin yet.
    pub(super) fn waits_for_path(&self) -> bool {
        let intent = self.intent.borrow();
        let is_strict = intent.bfd.as_ref().is_some_and(|bfd| bfd.is_strict);
        is_strict && !self.path.report.borrow().is_up()
    }

    /// Waits until the session may begin.
    pub(super) fn await_path(&self) -> impl Future<Output = ()> + Send + use<> {
        let waits = self.waits_for_path();
        let mut report = self.path.report.clone();
        async move {
            if waits && report.wait_for(BfdReport::is_up).await.is_err() {
                pending().await
            }
        }
    }
}
