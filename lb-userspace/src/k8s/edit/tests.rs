//! What is written is read back, and what is somebody else's stays.

use std::fs;

use super::*;
use crate::k8s::convert::Settings;
use crate::k8s::directory::Directory;
use crate::model::cluster::{Cluster, PeerAsn};
use crate::model::virtual_switch::{PeerRequest, Purposes, SwitchPort, VirtualSwitch};

fn peer(hold_time_seconds: Option<u16>) -> Edit {
    Edit::PutPeer {
        name: "hcs-vswitch1-10.0.0.1".to_owned(),
        peer: PeerRequest {
            switch: "vSwitch1".to_owned(),
            address: [10, 0, 0, 1].into(),
            peer_asn: 64_512,
            self_asn: 4_294_967_294,
            hold_time_seconds,
            multi_hop: true,
        },
        ebgp_multi_hop: true,
    }
}

fn all() -> Vec<Edit> {
    vec![
        peer(Some(15)),
        Edit::PutAdvertisement {
            name: "hcs-vswitch1".to_owned(),
            switch: "vSwitch1".to_owned(),
            peers: vec!["hcs-vswitch1-10.0.0.1".to_owned()],
            of_switch: true,
        },
        Edit::PutSwitch {
            name: "vswitch1".to_owned(),
            switch: VirtualSwitch {
                ports: vec![SwitchPort {
                    alias: "Port2".to_owned(),
                    interface: "eth1".to_owned(),
                }],
                enabled_for: Purposes {
                    compute: true,
                    ..Purposes::default()
                },
                is_managed: true,
            },
        },
    ]
}

fn new(edits: &[Edit]) -> Vec<Planned<'_>> {
    let planned = |edit| Planned {
        edit,
        exists: false,
    };
    edits.iter().map(planned).collect()
}

async fn apply(path: &std::path::Path, edits: &[Edit]) -> Result<Cluster, EditError> {
    let editor = Editor::Directory(DirectoryEditor::new(path));
    editor.apply(&new(edits)).await?;
    let mut directory = Directory::open(path, Settings::default()).unwrap();
    let snapshot = directory.read();
    assert_eq!(snapshot.findings, []);
    Ok(snapshot.cluster)
}

#[tokio::test]
async fn a_directory_reads_back_what_was_written_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = apply(dir.path(), &all()).await.unwrap();
    let read = &cluster.peers["hcs-vswitch1-10.0.0.1"];
    assert_eq!(read.switch.as_deref(), Some("vSwitch1"));
    assert_eq!(read.my_asn, 4_294_967_294);
    assert_eq!(read.peer_asn, PeerAsn::Number(64_512));
    assert_eq!(read.hold_time.unwrap().as_secs(), 15);
    assert!(read.ebgp_multi_hop);
    let advertisement = &cluster.bgp_advertisements["hcs-vswitch1"];
    assert_eq!(advertisement.peers.len(), 1);
    assert_eq!(advertisement.pools.selectors.len(), 1);
    let Edit::PutSwitch { switch, .. } = &all()[2] else {
        panic!("not a switch");
    };
    assert_eq!(cluster.virtual_switches["vswitch1"], *switch);

    let cluster = apply(dir.path(), &[peer(None)]).await.unwrap();
    assert_eq!(cluster.peers["hcs-vswitch1-10.0.0.1"].hold_time, None);

    let deletions = [
        Edit::DeletePeer {
            name: "hcs-vswitch1-10.0.0.1".to_owned(),
        },
        Edit::DeleteAdvertisement {
            name: "hcs-vswitch1".to_owned(),
        },
        Edit::DeleteSwitch {
            name: "vswitch1".to_owned(),
        },
    ];
    let cluster = apply(dir.path(), &deletions).await.unwrap();
    assert_eq!(cluster, Cluster::default());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_somebody_else_wrote_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vswitch1.yaml");
    fs::write(&path, "# by hand\n").unwrap();
    let refused = apply(dir.path(), &all()).await.unwrap_err();
    assert!(matches!(refused, EditError::Foreign(_)), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "# by hand\n");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "what comes before is not written either"
    );

    let editor = Editor::Directory(DirectoryEditor::new(dir.path()));
    let edit = peer(None);
    let refused = editor.check(&[Planned {
        edit: &edit,
        exists: true,
    }]);
    let message = refused.unwrap_err().to_string();
    assert!(
        message.starts_with("BGPPeer hcs-vswitch1-10.0.0.1 is in a file"),
        "{message}"
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("file");
    fs::write(&missing, "").unwrap();
    let refused = apply(&missing, &[peer(None)]).await.unwrap_err();
    assert!(
        refused.to_string().contains("/file/hcs-vswitch1"),
        "{refused}"
    );
}

#[test]
fn a_patch_takes_away_what_is_not_said_any_more() {
    let object = object(&peer(None)).unwrap();
    assert!(object["spec"]["holdTime"].is_null());
    assert!(object["spec"].as_object().unwrap().contains_key("holdTime"));
    assert_eq!(without_nulls(object)["spec"].get("holdTime"), None);
}
