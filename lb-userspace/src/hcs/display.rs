//! Objects as `Format-List`, `Format-Table` and `ConvertTo-Json` print them.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::model::virtual_switch::{SwitchPeer, SwitchReport};

/// Width of the names of a list: that of the longest.
const NAME_WIDTH: usize = 29;

/// A property of an object.
enum Property {
    Text(String),
    Truth(bool),
    /// A list, which prints nothing when it is empty.
    Items(Vec<String>),
    /// A collection, which prints its braces all the same.
    Collection(Vec<String>),
}

/// The switches as a list, a block for each.
pub fn list(switches: &[SwitchReport]) -> String {
    let mut text = String::new();
    for switch in switches {
        text.push('\n');
        for (name, property) in properties(switch) {
            let value = property.text();
            let value = if value.is_empty() {
                value
            } else {
                format!(" {value}")
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:NAME_WIDTH$} :{value}");
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The peers as a table.
pub fn table(peers: &[SwitchPeer]) -> String {
    let heads = ["PeerAddress", "PeerAsn", "SelfAsn", "HoldTime"];
    if peers.is_empty() {
        return String::new();
    }
    let mut rows = vec![
        heads.map(str::to_owned),
        heads.map(|head| "-".repeat(head.len())),
    ];
    rows.extend(peers.iter().map(cells));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or_default()
    };
    let (address, peer_asn, self_asn, hold_time) = (width(0), width(1), width(2), width(3));
    let mut text = "\n".to_owned();
    for (index, [a, b, c, d]) in rows.iter().enumerate() {
        let lead = format!("{a:address$} {b:peer_asn$} {c:self_asn$} ");
        // Numbers are to the right, heads to the left of a column.
        let last = match index {
            0 | 1 => d.clone(),
            _ => format!("{d:>hold_time$}"),
        };
        let _ = writeln!(text, "{lead}{last}");
    }
    text.push('\n');
    text
}

/// The switches as JSON: one object alone, several as an array, none as nothing.
///
/// # Errors
/// Never: every value can be written.
pub fn switches_json(switches: &[SwitchReport]) -> serde_json::Result<String> {
    let object = |switch: &SwitchReport| {
        let properties = properties(switch).into_iter();
        let fields = properties.map(|(name, property)| (name.to_owned(), property.json()));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    as_json(switches.iter().map(object).collect())
}

/// The peers as JSON, likewise.
///
/// # Errors
/// Never: every value can be written.
pub fn peers_json(peers: &[SwitchPeer]) -> serde_json::Result<String> {
    let object = |peer: &SwitchPeer| {
        json!({
            "PeerAddress": peer.address.to_string(),
            "PeerAsn": peer.peer_asn,
            "SelfAsn": peer.self_asn,
            "HoldTime": peer.hold_time_seconds,
        })
    };
    as_json(peers.iter().map(object).collect())
}

fn as_json(mut objects: Vec<Value>) -> serde_json::Result<String> {
    let value = match objects.len() {
        0 => return Ok(String::new()),
        1 => objects.swap_remove(0),
        _ => Value::Array(objects),
    };
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn cells(peer: &SwitchPeer) -> [String; 4] {
    [
        peer.address.to_string(),
        peer.peer_asn.map(|asn| asn.to_string()).unwrap_or_default(),
        peer.self_asn.to_string(),
        peer.hold_time_seconds.to_string(),
    ]
}

fn properties(switch: &SwitchReport) -> Vec<(&'static str, Property)> {
    let ports = switch.ports.iter().map(|port| port.alias.clone());
    let peers = switch.peers.iter().map(|peer| peer.address.to_string());
    let purposes = switch.enabled_for;
    vec![
        ("Name", Property::Text(switch.name.clone())),
        ("InterfaceAlias", Property::Collection(ports.collect())),
        ("EnableIov", Property::Truth(switch.iov_enabled)),
        ("MacAddressPools", Property::Items(Vec::new())),
        ("IPAddressPools", Property::Collection(switch.pools.clone())),
        ("BGPPeers", Property::Items(peers.collect())),
        ("ConfigurationSource", Property::Text("Dsc".to_owned())),
        ("EnabledForCompute", Property::Truth(purposes.compute)),
        ("EnabledForStorage", Property::Truth(purposes.storage)),
        ("EnabledForMgmt", Property::Truth(purposes.management)),
        (
            "SupportsAcceleratedNetworking",
            Property::Truth(switch.accelerates),
        ),
        (
            "DbeDhcpHostVnicName",
            Property::Text(switch.host_vnic.clone()),
        ),
        ("VirtualNetworks", Property::Collection(Vec::new())),
        // The device says so of every external switch, that of a single port too.
        ("EnableEmbeddedTeaming", Property::Truth(true)),
        ("Vnics", Property::Collection(Vec::new())),
        ("Type", Property::Text("External".to_owned())),
    ]
}

impl Property {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Truth(true) => "True".to_owned(),
            Self::Truth(false) => "False".to_owned(),
            Self::Items(items) if items.is_empty() => String::new(),
            Self::Items(items) | Self::Collection(items) => format!("{{{}}}", items.join(", ")),
        }
    }

    fn json(self) -> Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Truth(truth) => truth.into(),
            Self::Items(items) if items.is_empty() => Value::Null,
            Self::Items(items) | Self::Collection(items) => items.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::virtual_switch::{Purposes, SwitchPort};

    fn switch(name: &str, ports: &[&str], enabled_for: Purposes) -> SwitchReport {
        let port = |alias: &&str| SwitchPort {
            alias: (*alias).to_owned(),
            interface: "eth1".to_owned(),
        };
        SwitchReport {
            name: name.to_owned(),
            ports: ports.iter().map(port).collect(),
            enabled_for,
            host_vnic: "GUID".to_owned(),
            ..SwitchReport::default()
        }
    }

    fn device() -> Vec<SwitchReport> {
        let management = Purposes {
            management: true,
            ..Purposes::default()
        };
        let storage = Purposes {
            storage: true,
            ..Purposes::default()
        };
        vec![
            switch("vSwitch1", &["Port2"], management),
            switch("vSwitch2", &["Port3", "Port4"], storage),
        ]
    }

    fn peer(address: &str) -> SwitchPeer {
        SwitchPeer {
            object: "tor".to_owned(),
            address: address.parse().unwrap(),
            peer_asn: Some(64_512),
            self_asn: 64_513,
            hold_time_seconds: 15,
            multi_hop: false,
            state: None,
        }
    }

    #[test]
    fn the_list_is_that_of_the_documentation() {
        assert_eq!(list(&device()), include_str!("display/list.txt"));
        assert_eq!(list(&[]), "");
    }

    #[test]
    fn the_table_is_that_of_the_documentation() {
        assert_eq!(
            table(&[peer("10.126.77.125")]),
            "
PeerAddress   PeerAsn SelfAsn HoldTime
-----------   ------- ------- --------
10.126.77.125 64512   64513         15

"
        );
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let wide = SwitchPeer {
            peer_asn: Some(4_294_967_294),
            hold_time_seconds: 0,
            ..peer("10.0.0.1")
        };
        assert_eq!(
            table(&[wide, peer("2001:db8::1")]),
            "
PeerAddress PeerAsn    SelfAsn HoldTime
----------- -------    ------- --------
10.0.0.1    4294967294 64513          0
2001:db8::1 64512      64513         15

"
        );
    }

    #[test]
    fn what_a_switch_has_is_in_its_block() {
        let mut device = device();
        device[0].pools = vec!["a".to_owned(), "b".to_owned()];
        device[0].peers = vec![peer("10.126.77.125")];
        device[0].iov_enabled = true;
        let text = list(&device);
        for line in [
            "IPAddressPools                : {a, b}\n",
            "BGPPeers                      : {10.126.77.125}\n",
            "EnableIov                     : True\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn json_is_one_object_or_an_array_of_several() {
        let device = device();
        let one: Value = serde_json::from_str(&switches_json(&device[..1]).unwrap()).unwrap();
        assert_eq!(one["InterfaceAlias"], json!(["Port2"]));
        assert_eq!(one["MacAddressPools"], Value::Null);
        assert_eq!(one["EnabledForMgmt"], json!(true));
        let both: Value = serde_json::from_str(&switches_json(&device).unwrap()).unwrap();
        assert_eq!(both[1]["Name"], json!("vSwitch2"));
        assert_eq!(switches_json(&[]).unwrap(), "");
        let peers = peers_json(&[peer("10.126.77.125")]).unwrap();
        let peers: Value = serde_json::from_str(&peers).unwrap();
        assert_eq!(peers["HoldTime"], json!(15));
    }
}
