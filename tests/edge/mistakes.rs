//! Everything that an operator may get wrong: told in PowerShell's words, exit
//! code 1, and nothing changed.

use harness::machine;

use crate::device::Device;
use crate::transcript::SET;

/// What is typed, and what the error has to say.
const REFUSED: [(&str, &str); 14] = [
    (
        "Set-HcsBGPPeer -X 1",
        "Set-HcsBGPPeer : A parameter cannot be found that matches parameter name 'X'.\n",
    ),
    (
        "set-hcsbgppeer -Peer 1",
        "the parameter name 'Peer' is ambiguous",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512",
        "missing mandatory parameters: SelfAsn SwitchName.",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 65535 -SelfAsn 64513 -SwitchName vSwitch1",
        "want 1 to 65534, or 131072 to 4294967294",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 100000 -SwitchName vSwitch1",
        "want 1 to 65534, or 131072 to 4294967294",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1 \
         -HoldTimeInSeconds 2",
        "want 0 (none), or 3 to 65535",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 10.126.77.1 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1",
        "PeerAddress is the address of the router that MetalLB should connect to, not that of the port",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 198.51.100.1 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1",
        "in no subnet of vSwitch1, which has 10.126.77.0/24",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 224.0.0.1 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1",
        "want a unicast address",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch2 -MultiHop",
        "10.126.77.125 is a BGP peer already, on vSwitch1",
    ),
    (
        "Set-HcsBGPPeer -PeerAddress 10.126.77.2 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch9",
        "There is no virtual switch vSwitch9; there are: vSwitch1, vSwitch2.",
    ),
    (
        "Get-HcsBGPPeers -SwitchName vSwitch9",
        "Get-HcsBGPPeers : There is no virtual switch vSwitch9",
    ),
    (
        "Remove-HcsBGPPeer -PeerAddress 10.126.77.9 -SwitchName vSwitch1",
        "vSwitch1 has no BGP peer 10.126.77.9; it has: 10.126.77.125.",
    ),
    (
        "Remove-HcsBGPPeer -SwitchName vSwitch1 10.126.77.9",
        "A positional parameter cannot be found that accepts argument '10.126.77.9'.",
    ),
];

#[test]
fn every_mistake_is_explained_and_changes_nothing() {
    if !machine::can_test() {
        return;
    }
    let device = Device::new().unwrap();
    assert_eq!(device.types(SET).unwrap().code, Some(0));
    let files = device.files().unwrap();
    assert_eq!(files, ["device.yaml", "hcs-vswitch1-10.126.77.125.yaml"]);
    let peer = device.source().join(&files[1]);
    let before = std::fs::read_to_string(&peer).unwrap();

    for (line, reason) in REFUSED {
        let (name, rest) = line.split_once(' ').unwrap();
        let mut arguments = vec![name];
        arguments.extend(rest.split_whitespace());
        let said = device.torline(&arguments).unwrap();
        assert_eq!(said.code, Some(1), "{line}: {said:?}");
        assert_eq!(said.out, "", "{line}");
        assert!(said.err.contains(reason), "{line}: {}", said.err);
        assert!(
            said.err.contains("    + FullyQualifiedErrorId : "),
            "{said:?}"
        );
    }
    let what_if = device
        .types("Remove-HcsBGPPeer -PeerAddress 10.126.77.125 -SwitchName vSwitch1 -WhatIf")
        .unwrap();
    assert_eq!(
        what_if.out,
        "What if: Performing the operation \"Remove-HcsBGPPeer\" on target \"10.126.77.125 on vSwitch1\".\n"
    );
    assert_eq!(device.files().unwrap(), files);
    assert_eq!(std::fs::read_to_string(&peer).unwrap(), before);

    let verbose = device
        .types("Remove-HcsBGPPeer -PeerAddress 10.126.77.125 -SwitchName vSwitch1 -Verbose")
        .unwrap();
    assert_eq!((verbose.code, verbose.out.as_str()), (Some(0), ""));
    assert!(
        verbose
            .err
            .starts_with("VERBOSE: Performing the operation \"Remove-HcsBGPPeer\""),
        "{verbose:?}"
    );
    assert_eq!(device.files().unwrap(), ["device.yaml"]);
}

#[test]
fn objects_of_somebody_else_are_left_to_him() {
    if !machine::can_test() {
        return;
    }
    let device = Device::new().unwrap();
    let said = device
        .torline(&["compute", "enable", "--port", "Port2"])
        .unwrap();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("was not written by torline"), "{said:?}");

    let said = device
        .torline(&["compute", "enable", "--port", "Port9", "--interface", "lo"])
        .unwrap();
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "VirtualSwitch vswitch3 written\n")
    );
    let said = device
        .torline(&["vswitch", "show", "VSWITCH3", "--json"])
        .unwrap();
    assert!(said.out.contains("\"alias\":\"Port9\""), "{said:?}");
    let said = device
        .torline(&["compute", "disable", "--port", "Port9"])
        .unwrap();
    assert_eq!(said.out, "VirtualSwitch vswitch3 deleted\n");
}

#[test]
fn without_an_agent_it_is_said_that_there_is_none() {
    if !machine::can_test() {
        return;
    }
    let mut device = Device::new().unwrap();
    device.kill();
    let said = device.types("Get-HcsExternalVirtualSwitch").unwrap();
    assert_eq!(said.code, Some(2));
    assert!(
        said.err
            .contains("Get-HcsExternalVirtualSwitch : No agent answers on"),
        "{said:?}"
    );
}
