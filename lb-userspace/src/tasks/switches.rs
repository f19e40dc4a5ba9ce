//! The virtual switches of this node, told of and changed for the admin API.
//!
//! A change is decided by `plan::switch`, written to the source by `k8s::edit`, and answered once the source
//! was read with it: who asks then sees it. Changes come one after the other.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::block_in_place;
use tokio::time::timeout;
use tracing::info;

use super::sessions::{self, SessionBook};
use super::source::Snapshot;
use crate::k8s::edit::{Editor, Planned};
use crate::model::cluster::{BgpPeer, Cluster, PeerAsn};
use crate::model::virtual_switch::{
    SwitchAnswer, SwitchPeer, SwitchRefusal, SwitchReport, SwitchRequest, SwitchWarning,
    SwitchesReport, VirtualSwitch, shown_name,
};
use crate::net::interfaces::{self, Sysfs};
use crate::plan::announce::bgp::HOLD_TIME;
use crate::plan::switch::{self, Decision, Here, Interface};

/// Longest wait for the source to be read with a change.
const READ_BACK: Duration = Duration::from_secs(5);

/// The virtual switches.
pub struct Switches {
    node: String,
    sysfs: Sysfs,
    snapshots: watch::Receiver<Snapshot>,
    sessions: watch::Receiver<SessionBook>,
    editor: Mutex<Editor>,
}

impl Switches {
    /// Those of `node`; `sysfs` is where sysfs is mounted.
    pub fn new(
        node: &str,
        sysfs: &Path,
        snapshots: watch::Receiver<Snapshot>,
        sessions: watch::Receiver<SessionBook>,
        editor: Editor,
    ) -> Self {
        Self {
            node: node.to_owned(),
            sysfs: Sysfs::new(sysfs),
            snapshots,
            sessions,
            editor: Mutex::new(editor),
        }
    }

    /// What there is.
    pub fn report(&self) -> SwitchesReport {
        let cluster = self.snapshots.borrow().cluster.clone();
        let switches = cluster.virtual_switches.iter();
        SwitchesReport {
            node: self.node.clone(),
            switches: switches
                .map(|(name, switch)| self.one(&cluster, name, switch))
                .collect(),
        }
    }

    /// Does what is asked for, or says what it would come to.
    ///
    /// # Errors
    /// Why not; nothing was changed then, but what the message says.
    pub async fn act(&self, request: &SwitchRequest) -> Result<SwitchAnswer, SwitchRefusal> {
        let editor = self.editor.lock().await;
        let here = self.here()?;
        let cluster = self.snapshots.borrow().cluster.clone();
        let decision = switch::decide(&cluster, &here, &request.change)?;
        let planned: Vec<_> = decision
            .edits
            .iter()
            .map(|edit| Planned {
                edit,
                exists: switch::exists(&cluster, edit),
            })
            .collect();
        let refused = |error: crate::k8s::edit::EditError| SwitchRefusal::Source {
            message: error.to_string(),
        };
        if request.what_if {
            editor.check(&planned).map_err(refused)?;
            return Ok(answer(decision));
        }
        editor.apply(&planned).await.map_err(refused)?;
        for edit in &decision.edits {
            info!("{edit}, as asked for over the admin socket");
        }
        let is_read = self.await_reading(&decision).await;
        let mut answer = answer(decision);
        if !is_read {
            answer.warnings.push(SwitchWarning::NotReadBack {
                seconds: READ_BACK.as_secs(),
            });
        }
        Ok(answer)
    }

    async fn await_reading(&self, decision: &Decision) -> bool {
        let mut snapshots = self.snapshots.clone();
        let is_done = |snapshot: &Snapshot| {
            let mut edits = decision.edits.iter();
            edits.all(|edit| switch::is_done(&snapshot.cluster, edit))
        };
        timeout(READ_BACK, snapshots.wait_for(is_done))
            .await
            .is_ok_and(|found| found.is_ok())
    }

    fn here(&self) -> Result<Here, SwitchRefusal> {
        let addresses = block_in_place(interfaces::addresses);
        let addresses = addresses.map_err(|error| SwitchRefusal::Source {
            message: format!("failed to read the addresses of this node: {error}"),
        })?;
        let interfaces = addresses.into_iter().map(|(name, addresses)| Interface {
            alias: self.sysfs.alias(&name),
            name,
            addresses,
        });
        Ok(Here {
            interfaces: interfaces.collect(),
        })
    }

    fn one(&self, cluster: &Cluster, name: &str, switch: &VirtualSwitch) -> SwitchReport {
        let functions: Vec<_> = switch
            .ports
            .iter()
            .map(|port| self.sysfs.virtual_functions(&port.interface))
            .collect();
        let book = self.sessions.borrow();
        let mut peers: Vec<_> = switch::peers_of(cluster, name)
            .map(|(object, peer)| {
                let session = book.get(object);
                let state = session.map(|entry| sessions::state(entry.status.borrow().state));
                told(object, peer, state)
            })
            .collect();
        peers.sort_by_key(|peer| peer.address);
        SwitchReport {
            name: shown_name(name),
            ports: switch.ports.clone(),
            enabled_for: switch.enabled_for,
            iov_enabled: functions.iter().all(|functions| functions.present > 0),
            accelerates: functions.iter().all(|functions| functions.possible > 0),
            host_vnic: switch::host_vnic(&self.node, name),
            pools: switch::pools_of(cluster, name).map(str::to_owned).collect(),
            peers,
        }
    }
}

fn answer(decision: Decision) -> SwitchAnswer {
    SwitchAnswer {
        done: decision.edits.iter().map(ToString::to_string).collect(),
        warnings: decision.warnings,
    }
}

fn told(object: &str, peer: &BgpPeer, state: Option<&str>) -> SwitchPeer {
    SwitchPeer {
        object: object.to_owned(),
        address: peer.peer_address,
        peer_asn: match peer.peer_asn {
            PeerAsn::Number(asn) => Some(asn),
            PeerAsn::Internal => Some(peer.my_asn),
            PeerAsn::External => None,
        },
        self_asn: peer.local_asn.unwrap_or(peer.my_asn),
        hold_time_seconds: peer.hold_time.unwrap_or(HOLD_TIME).as_secs(),
        multi_hop: peer.ebgp_multi_hop,
        state: state.map(str::to_owned),
    }
}
