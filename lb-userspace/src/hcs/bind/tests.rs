//! Every habit of PowerShell's, and every mistake.

use super::*;
use crate::hcs::cmdlet::{
    HOLD_TIME, MULTI_HOP, PEER_ADDRESS, PEER_ASN, SELF_ASN, SWITCH_NAME, VERBOSE, WHAT_IF,
};

const SET: &str = "-PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1";

fn run(cmdlet: Cmdlet, line: &str) -> Result<Bound, Failure> {
    let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    bind(cmdlet, &arguments)
}

fn set(line: &str) -> Bound {
    run(Cmdlet::SetBgpPeer, line).unwrap()
}

/// Kind and message of what is wrong with what is added to a right line.
fn wrong(more: &str) -> (Kind, String) {
    let failure = run(Cmdlet::SetBgpPeer, &format!("{SET} {more}")).unwrap_err();
    (failure.kind, failure.message)
}

#[test]
fn the_line_of_the_documentation_is_read() {
    let bound = set(&format!("{SET} -HoldTimeInSeconds 15"));
    assert_eq!(bound.address(PEER_ADDRESS), Some([10, 126, 77, 125].into()));
    assert_eq!(bound.number(PEER_ASN), Some(64_512));
    assert_eq!(bound.number(SELF_ASN), Some(64_513));
    assert_eq!(bound.text(SWITCH_NAME), Some("vSwitch1"));
    assert_eq!(bound.number(HOLD_TIME), Some(15));
    assert!(!bound.is_on(MULTI_HOP) && !bound.is_on(WHAT_IF));
}

#[test]
fn names_go_in_any_case_cut_short_and_with_a_colon() {
    for line in [
        "-peeraddress 10.126.77.125 -PEERASN 64512 -selfasn 64513 -switchname vSwitch1",
        "-PeerAd 10.126.77.125 -PeerAs 64512 -Se 64513 -Sw vSwitch1",
        "-PeerAddress:10.126.77.125 -PeerAsn:64512 -SelfAsn: 64513 -SwitchName:vSwitch1",
        "\u{2013}PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1",
    ] {
        assert_eq!(set(line), set(SET), "{line}");
    }
    let bound = run(Cmdlet::GetBgpPeers, "-s vSwitch1").unwrap();
    assert_eq!(bound.text(SWITCH_NAME), Some("vSwitch1"));
}

#[test]
fn an_address_of_ipv6_has_colons_of_its_own() {
    let line = "-PeerAddress:2001:db8::1 -PeerAsn 1 -SelfAsn 2 -SwitchName a";
    assert_eq!(set(line).address(PEER_ADDRESS), "2001:db8::1".parse().ok());
}

#[test]
fn switches_stand_alone_or_say_how() {
    for (more, is_on) in [
        ("-WhatIf", true),
        ("-wh", true),
        ("-WhatIf:$true", true),
        ("-WhatIf:1", true),
        ("-WhatIf: true", true),
        ("-WhatIf:$False", false),
        ("-WhatIf:0", false),
    ] {
        assert_eq!(
            set(&format!("{SET} {more}")).is_on(WHAT_IF),
            is_on,
            "{more}"
        );
    }
    let bound = set(&format!("-Verbose {SET} -MultiHop"));
    assert!(bound.is_on(VERBOSE) && bound.is_on(MULTI_HOP));
}

#[test]
fn help_goes_before_everything() {
    let bound = run(Cmdlet::SetBgpPeer, "-Nonsense -?").unwrap();
    assert!(bound.wants_help);
}

#[test]
fn an_unknown_parameter_is_named() {
    let (kind, message) = wrong("-X 1");
    assert_eq!(kind, Kind::NamedParameterNotFound);
    assert_eq!(
        message,
        "A parameter cannot be found that matches parameter name 'X'."
    );
    assert_eq!(wrong("--hold-time 5").0, Kind::NamedParameterNotFound);
}

#[test]
fn a_prefix_of_several_is_ambiguous() {
    let failure = run(Cmdlet::SetBgpPeer, "-Peer 10.0.0.1").unwrap_err();
    assert_eq!(failure.kind, Kind::AmbiguousParameter);
    assert!(
        failure.message.ends_with("include: -PeerAddress -PeerAsn."),
        "{}",
        failure.message
    );
}

#[test]
fn what_is_said_twice_or_without_a_name_is_refused() {
    assert_eq!(wrong("-PeerAsn 1").0, Kind::ParameterAlreadyBound);
    let (kind, message) = wrong("vSwitch1");
    assert_eq!(kind, Kind::PositionalParameterNotFound);
    assert!(message.contains("accepts argument 'vSwitch1'"), "{message}");
}

#[test]
fn a_value_that_is_missing_is_asked_for() {
    for more in ["-HoldTimeInSeconds", "-HoldTimeInSeconds -WhatIf", "-Hold:"] {
        let (kind, message) = wrong(more);
        assert_eq!(kind, Kind::MissingArgument, "{more}");
        assert!(message.contains("'HoldTimeInSeconds'"), "{message}");
        assert!(message.contains("'System.UInt16'"), "{message}");
    }
    let failure = run(Cmdlet::SetBgpPeer, "-SelfAsn 1").unwrap_err();
    assert_eq!(failure.kind, Kind::MissingMandatoryParameter);
    assert!(
        failure.message.ends_with("PeerAddress PeerAsn SwitchName."),
        "{}",
        failure.message
    );
}

#[test]
fn an_as_number_out_of_range_names_both_ranges() {
    for asn in [
        "0",
        "65535",
        "131071",
        "4294967295",
        "99999999999",
        "-1",
        "many",
    ] {
        let line = format!("-PeerAddress 10.0.0.1 -PeerAsn {asn} -SelfAsn 1 -SwitchName a");
        let failure = run(Cmdlet::SetBgpPeer, &line).unwrap_err();
        assert_eq!(
            failure.kind,
            Kind::ParameterArgumentValidationError,
            "{asn}"
        );
        assert!(
            failure.message.contains("'PeerAsn'. \"")
                && failure
                    .message
                    .contains("1 to 65534, or 131072 to 4294967294"),
            "{}",
            failure.message
        );
    }
}

#[test]
fn a_hold_time_and_an_address_are_what_they_say() {
    for seconds in ["1", "2", "65536"] {
        let (kind, message) = wrong(&format!("-HoldTimeInSeconds {seconds}"));
        assert_eq!(kind, Kind::ParameterArgumentValidationError, "{seconds}");
        assert!(
            message.contains("want 0 (none), or 3 to 65535"),
            "{message}"
        );
    }
    let (kind, message) = wrong("-HoldTimeInSeconds 15s");
    assert_eq!(kind, Kind::CannotConvertArgument);
    assert!(message.contains("\"System.UInt16\""), "{message}");

    let line = "-PeerAddress 10.126.77 -PeerAsn 1 -SelfAsn 1 -SwitchName a";
    let failure = run(Cmdlet::SetBgpPeer, line).unwrap_err();
    assert_eq!(failure.kind, Kind::CannotConvertArgument);
    assert!(
        failure.message.contains("\"System.Net.IPAddress\""),
        "{}",
        failure.message
    );
    assert_eq!(wrong("-WhatIf:perhaps").0, Kind::CannotConvertArgument);
}

#[test]
fn no_argument_makes_it_panic() {
    use proptest::prelude::*;

    proptest!(|(arguments in proptest::collection::vec("[-\u{2013}]?[a-zA-Z:$0-9?é]{0,8}", 0..6))| {
        for cmdlet in Cmdlet::ALL {
            let _ = bind(cmdlet, &arguments);
        }
    });
}
