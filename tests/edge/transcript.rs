//! The procedure of the product's documentation, typed.

use harness::machine;

use crate::device::{Device, Said};

/// What the documentation shows, with the GUIDs left out.
const LIST: &str = include_str!("../../lb-userspace/src/hcs/display/list.txt");

const TABLE: &str = "
PeerAddress   PeerAsn SelfAsn HoldTime
-----------   ------- ------- --------
10.126.77.125 64512   64513         15

";

pub(crate) const SET: &str = "Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 \
                              -SwitchName vSwitch1 -HoldTimeInSeconds 15";

/// What succeeds and prints nothing.
fn silent(said: &Said) {
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
}

/// The list with the GUIDs left out, which are 36 letters each.
fn without_guids(list: &str) -> (String, Vec<String>) {
    let mut guids = Vec::new();
    let lines = list.lines().map(|line| {
        let Some(guid) = line.strip_prefix("DbeDhcpHostVnicName           : ") else {
            return line.to_owned();
        };
        assert_eq!(guid.len(), 36, "{guid}");
        assert!(
            guid.chars().all(|c| c == '-' || c.is_ascii_hexdigit()),
            "{guid}"
        );
        guids.push(guid.to_owned());
        line.replace(guid, "GUID")
    });
    let text = lines.map(|line| line + "\n").collect();
    (text, guids)
}

#[test]
fn the_transcript_of_the_documentation_comes_out_as_it_is_printed() {
    if !machine::can_test() {
        return;
    }
    let mut device = Device::new().unwrap();
    assert_eq!(
        device.status().unwrap().services[0].l2_leader.as_deref(),
        Some("device"),
        "no peers: layer 2"
    );

    let listed = device.types("Get-HcsExternalVirtualSwitch").unwrap();
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    let (text, guids) = without_guids(&listed.out);
    assert_eq!(text, LIST);
    assert!(guids.len() == 2 && guids[0] != guids[1], "{guids:?}");

    let set = device.types(SET).unwrap();
    silent(&set);
    assert_eq!(
        set.err,
        "WARNING: vSwitch1 is not enabled for compute; to enable it: torline compute enable --port Port2\n"
    );

    let got = device
        .types("Get-HcsBGPPeers -SwitchName vSwitch1")
        .unwrap();
    assert_eq!(
        (got.code, got.out.as_str(), got.err.as_str()),
        (Some(0), TABLE, "")
    );

    let session = device.await_session("Established").unwrap();
    assert!(session.contains("Neighbor AS:      64513"), "{session}");
    // Remaining and whole hold time.
    let hold = session
        .lines()
        .find(|line| line.contains("Hold timer:"))
        .unwrap();
    assert!(hold.trim_end().ends_with("/15"), "{session}");
    device.await_route(true).unwrap();

    // A change outlives the agent.
    device.kill();
    device.start().unwrap();
    let got = device
        .types("Get-HcsBGPPeers -SwitchName vSwitch1")
        .unwrap();
    assert_eq!(got.out, TABLE);
    device.await_session("Established").unwrap();
    device.await_route(true).unwrap();
    let again = device.types("Get-HcsExternalVirtualSwitch").unwrap();
    assert_eq!(without_guids(&again.out).1, guids);
    assert!(
        again
            .out
            .contains("BGPPeers                      : {10.126.77.125}\n"),
        "{again:?}"
    );

    let removed = device
        .types("Remove-HcsBGPPeer -PeerAddress 10.126.77.125 -SwitchName vSwitch1")
        .unwrap();
    silent(&removed);
    assert_eq!(removed.err, "");
    let got = device
        .types("Get-HcsBGPPeers -SwitchName vSwitch1")
        .unwrap();
    silent(&got);
    let session = device.await_session("Last error").unwrap();
    assert!(
        session.contains("Received: "),
        "{session}{}",
        device.router_log().unwrap()
    );
    assert!(!session.contains("Established"), "{session}");
    device.await_route(false).unwrap();
    let log = device.router_log().unwrap();
    assert!(log.contains("edge: Received: "), "{log}");
    assert_eq!(device.files().unwrap(), ["device.yaml"]);
}
