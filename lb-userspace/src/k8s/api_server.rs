//! An API server as the source of objects.
//!
//! ```text
//! feed of a kind ─┐  list, then watch
//! feed of a kind ─┼─▶ ApiServer ─▶ index ─▶ Snapshot
//! feed of Secret ─┘  one for each Secret that a BGPPeer names, and for `torline`
//! ```
//!
//! `feed` lists and watches and begins again when it has to: after an expired watch (410), a
//! restart of the server, a cut line. Until a list was read whole again, everything of it stays.
//! What a feed cannot get is a finding that names what is missing; the other feeds go on.
//!
//! Invariants
//! - An object goes when the server says so: by a deletion, or by a whole list without it.
//! - Before every list was read, or was refused, nothing is told.

mod feed;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use kube::runtime::watcher::Event;
use kube::{Client, Config};
use tokio::time::{Duration, Instant, sleep_until};

use super::convert::Settings;
use super::edit::ClusterEditor;
use super::index::{Index, Snapshot};
use super::object::{Key, Kind};
use super::status::{Pod, StatusWriter};
use super::writer::Writer;
use crate::model::intent::Finding;
use feed::{Item, Message, Name, Scope};
use trouble::Trouble;

/// Name of the Secret that holds the cluster's keys.
const KEYS: &str = "torline";

/// Kinds that are listed whole. Secrets are watched one by one.
const KINDS: [Kind; 11] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Node,
    Kind::Namespace,
    Kind::IpAddressPool,
    Kind::BgpPeer,
    Kind::BgpAdvertisement,
    Kind::L2Advertisement,
    Kind::Community,
    Kind::BfdProfile,
    Kind::VirtualSwitch,
];

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// A trouble that was not met again for this long is over: every feed tries at least that often.
const STALE: Duration = Duration::from_secs(15);

/// Objects taken at most before they are told of.
const BATCH: usize = 10_000;

/// Why an API server cannot be used at all.
#[derive(thiserror::Error, Debug)]
pub enum ConnectError {
    /// There is neither a kubeconfig nor a ServiceAccount.
    #[error("failed to find the API server: set KUBECONFIG, or run in a pod with a ServiceAccount")]
    Config(#[source] kube::config::InferConfigError),
    /// The configuration cannot be used.
    #[error("failed to make a client of the API server")]
    Client(#[source] kube::Error),
}

/// What was read since the last time.
#[derive(Clone, PartialEq, Debug)]
pub enum Reading {
    /// Some list is still on its way; what is wrong so far.
    Waiting(Vec<Finding>),
    /// The objects of all lists but those that were refused.
    Settled(Box<Snapshot>),
}

/// The objects of an API server, kept up to date.
pub struct ApiServer {
    scope: Scope,
    index: Index,
    feeds: BTreeMap<Name, Feed>,
    messages: SelectAll<BoxStream<'static, Message>>,
}

/// What is known from a feed.
struct Feed {
    /// Objects that the server has.
    keys: BTreeSet<Key>,
    /// Those met so far in the list that is being read.
    listing: BTreeSet<Key>,
    /// Whether a list was read to its end.
    is_complete: bool,
    /// What keeps it from going on, and until when that is believed.
    trouble: Option<(Trouble, Instant)>,
    /// Ends the stream when dropped.
    _stop: feed::Stop,
}

impl ApiServer {
    /// Finds the API server by `KUBECONFIG`, `~/.kube/config` or the ServiceAccount of the pod. Asks it
    /// nothing yet: it need not be there. `seed` spreads the attempts of many agents.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if it is nowhere said where the API server is.
    pub async fn connect(
        namespace: &str,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, ConnectError> {
        let mut config = Config::infer().await.map_err(ConnectError::Config)?;
        config.connect_timeout = Some(CONNECT);
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        let mut server = Self {
            scope: Scope {
                client,
                namespace: namespace.to_owned(),
                seed,
            },
            index: Index::new(settings),
            feeds: BTreeMap::new(),
            messages: SelectAll::new(),
        };
        for kind in KINDS {
            server.start(Name::Kind(kind));
        }
        server.start(Name::Secret(KEYS.to_owned()));
        Ok(server)
    }

    /// What writes to the same server, for the agent of `node`.
    pub fn writer(&self, node: &str) -> Writer {
        Writer::new(self.scope.client.clone(), &self.scope.namespace, node)
    }

    /// What says on the same server what this node does; `pod` runs its agent.
    pub fn status_writer(&self, node: &str, pod: Option<&Pod>) -> StatusWriter {
        StatusWriter::new(&self.scope.client, &self.scope.namespace, node, pod)
    }

    /// What changes objects of the same server.
    pub fn editor(&self) -> ClusterEditor {
        ClusterEditor::new(self.scope.client.clone(), &self.scope.namespace)
    }

    /// Waits until something has changed.
    pub async fn next(&mut self) -> Reading {
        loop {
            let deadline = self.next_deadline();
            let mut changed = tokio::select! {
                Some(message) = self.messages.next() => self.take(message),
                () = sleep_until(deadline) => self.forget_troubles(Instant::now()),
            };
            // What has come in the meantime makes one reading with it.
            for _ in 0..BATCH {
                let Some(Some(message)) = self.messages.next().now_or_never() else {
                    break;
                };
                changed |= self.take(message);
            }
            changed |= self.follow_secrets();
            if changed {
                return self.reading();
            }
        }
    }

    fn reading(&mut self) -> Reading {
        let troubles = trouble::findings(self.feeds.iter().filter_map(|(name, feed)| {
            let (trouble, _) = feed.trouble.as_ref()?;
            Some((name, trouble, feed.is_complete))
        }));
        let mut feeds = self.feeds.values();
        let is_settled = feeds.all(|feed| {
            let trouble = feed.trouble.as_ref();
            feed.is_complete || trouble.is_some_and(|(trouble, _)| trouble.is_refusal())
        });
        if !is_settled {
            return Reading::Waiting(troubles);
        }
        let mut snapshot = self.index.snapshot();
        let mut feeds = self.feeds.iter();
        snapshot.cluster.is_partial =
            feeds.any(|(name, feed)| !feed.is_complete && !name.is_optional());
        snapshot.findings.extend(troubles);
        snapshot.findings.sort();
        Reading::Settled(Box::new(snapshot))
    }

    fn start(&mut self, name: Name) {
        let (stream, stop) = feed::start(&self.scope, &name);
        self.messages.push(stream);
        let feed = Feed {
            keys: BTreeSet::new(),
            listing: BTreeSet::new(),
            is_complete: false,
            trouble: None,
            _stop: stop,
        };
        self.feeds.insert(name, feed);
    }

    /// Whether the message changes what there is to tell.
    fn take(&mut self, (name, event): Message) -> bool {
        // Of a Secret that nobody names any more.
        let Some(feed) = self.feeds.get_mut(&name) else {
            return false;
        };
        let is_first = !feed.is_complete;
        match event {
            Ok(Event::Init) => {
                feed.listing.clear();
                return false;
            }
            Ok(Event::InitApply(item)) => {
                feed.listing.insert(item.key());
                feed.keys.insert(item.key());
                apply(&mut self.index, &item);
                // Told of with the whole of the first list; a later list has mostly what is known.
                return !is_first;
            }
            Ok(Event::InitDone) => {
                for key in feed.keys.difference(&feed.listing) {
                    self.index.delete(SOURCE, key);
                }
                feed.keys = std::mem::take(&mut feed.listing);
                feed.is_complete = true;
            }
            Ok(Event::Apply(item)) => {
                feed.keys.insert(item.key());
                apply(&mut self.index, &item);
            }
            Ok(Event::Delete(item)) => {
                let key = item.key();
                feed.keys.remove(&key);
                self.index.delete(SOURCE, &key);
            }
            Err(error) => {
                // A watch that expired begins again with a list.
                let Some(trouble) = Trouble::of(&error, &name, &self.scope.namespace) else {
                    return false;
                };
                let is_new = feed.trouble.as_ref().map(|(known, _)| known) != Some(&trouble);
                feed.trouble = Some((trouble, Instant::now() + STALE));
                return is_new;
            }
        }
        feed.trouble = None;
        true
    }

    /// Begins and ends feeds, so that the Secrets that are named are watched and no others are.
    fn follow_secrets(&mut self) -> bool {
        let named = self.index.password_secrets();
        let wanted: BTreeSet<_> = named
            .filter(|secret| secret.namespace == self.scope.namespace)
            .map(|secret| secret.name.clone())
            .chain([KEYS.to_owned()])
            .map(Name::Secret)
            .collect();
        let known = self.feeds.keys();
        let known: BTreeSet<_> = known
            .filter(|name| matches!(name, Name::Secret(_)))
            .cloned()
            .collect();
        for name in known.difference(&wanted) {
            let feed = self.feeds.remove(name);
            for key in feed.iter().flat_map(|feed| &feed.keys) {
                self.index.delete(SOURCE, key);
            }
        }
        for name in wanted.difference(&known) {
            self.start(name.clone());
        }
        wanted != known
    }

    fn next_deadline(&self) -> Instant {
        let troubles = self.feeds.values().filter_map(|feed| feed.trouble.as_ref());
        let deadlines = troubles.map(|(_, deadline)| *deadline);
        deadlines.min().unwrap_or_else(|| Instant::now() + STALE)
    }

    fn forget_troubles(&mut self, now: Instant) -> bool {
        let mut forgotten = false;
        for feed in self.feeds.values_mut() {
            // A feed without a list has not got over its trouble: it is at it.
            let is_over = |(_, deadline): &mut (Trouble, Instant)| *deadline <= now;
            if feed.is_complete {
                forgotten |= feed.trouble.take_if(is_over).is_some();
            } else if let Some((_, deadline)) = &mut feed.trouble {
                *deadline = (*deadline).max(now + STALE);
            }
        }
        forgotten
    }
}

/// What the index knows this source by; a cluster has one.
const SOURCE: &str = "";

fn apply(index: &mut Index, item: &Item) {
    match item {
        Item::Object(object) => index.apply(SOURCE, object, |_| String::new()),
        Item::Broken(key, error) => {
            let finding = Finding {
                source: String::new(),
                object: key.to_string(),
                field: error.path.clone(),
                message: error.message.clone(),
            };
            index.reject(SOURCE, key, finding);
        }
    }
}
