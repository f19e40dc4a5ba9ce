//! What `torline status` looks like.

use super::*;
use crate::model::status::{AttachStatus, BackendStatus, SlotUse};

fn backend(address: &str, node: &str, slots: u32, state: &str) -> BackendStatus {
    BackendStatus {
        address: address.into(),
        port: 8080,
        node: node.into(),
        weight: u32::from(state == "active"),
        slots,
        state: state.into(),
    }
}

fn example() -> Status {
    Status {
        node: "node-a".into(),
        version: "0.1.0".into(),
        source: "dir:/etc/torline".into(),
        in_sync: true,
        attach: AttachStatus {
            interface: "eth0".into(),
            ifindex: 3,
            mode: "native".into(),
        },
        services: vec![
            ServiceStatus {
                name: "default/web".into(),
                addresses: vec![
                    "203.0.113.10".parse().unwrap(),
                    "2001:db8::10".parse().unwrap(),
                ],
                pool: Some("public".into()),
                announced_to: vec!["tor".into()],
                ..ServiceStatus::default()
            },
            ServiceStatus {
                name: "default/late".into(),
                error: Some("no pool has a free address".into()),
                ..ServiceStatus::default()
            },
        ],
        frontends: vec![FrontendStatus {
            name: "203.0.113.10:80/tcp".into(),
            service: "default/web".into(),
            table_length: 1024,
            digest: "9f86d081884c7d659a2feaa0c55ad015".into(),
            refused: None,
            backends: vec![
                backend("10.0.0.1", "node-a", 512, "active"),
                backend("fd00::2", "node-b", 512, "active"),
                backend("10.0.0.3", "node-b", 0, "draining"),
            ],
            packets: 1_234_567,
            bytes: 98_765_432,
            flows: 1000,
            delivered: 617_283,
        }],
        sessions: vec![SessionReport {
            peer: "tor".into(),
            address: "192.0.2.1".into(),
            state: "established".into(),
            uptime_seconds: Some(3725),
            hold_time_seconds: Some(90),
            routes: vec!["203.0.113.10/32".into()],
            last_error: Some("no answer".into()),
            bfd: Some(BfdSessionStatus {
                state: "up".into(),
                detect_ms: Some(150),
                ..BfdSessionStatus::default()
            }),
            ..SessionReport::default()
        }],
        nodes: vec![NodeStatus {
            name: "node-b".into(),
            mode: "l2".into(),
            state: "live".into(),
            mac: Some("02:00:00:00:00:0b".into()),
            addresses: vec!["192.0.2.12".parse().unwrap()],
        }],
        drops: [("no_backend".to_owned(), 12)].into(),
        outcomes: [
            ("promoted", 1_000),
            ("tunnelled", 0),
            ("excepted", 123_456),
            ("chain_begun", 1_240),
            ("chain_hit", 1_238),
            ("locate_wanted", 2),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into(),
        peer: PeerStatus {
            asked: 2,
            found: 2,
            ..PeerStatus::default()
        },
        findings: vec![FindingStatus {
            source: "web.yaml:7".into(),
            object: "Service default/web".into(),
            field: "spec.ports[0].port".into(),
            message: "want 1 to 65535, found 0".into(),
        }],
        slots: SlotUse {
            used: 1024,
            total: 4_194_304,
        },
        map_bytes: 64_184_320,
        ..Status::default()
    }
}

#[test]
fn tables_are_aligned_and_short() {
    assert_eq!(
        render(&example()),
        "\
node       node-a, torline 0.1.0
source     dir:/etc/torline, in sync
interface  eth0 (index 3), native XDP
slots      1,024 of 4,194,304, 61.2 MiB of maps
drops      no_backend 12
outcomes   chain_begun 1,240, chain_hit 1,238, excepted 123,456,
           locate_wanted 2, promoted 1,000
agents     asked 2, found 2

services
  SERVICE       ADDRESSES                  POOL    BGP  ARP/NDP  NOTE
  default/web   203.0.113.10 2001:db8::10  public  tor  -
  default/late  -                          -       -    -        no pool has a free address

backends
  FRONTEND             BACKEND         NODE    STATE     WEIGHT   SHARE
  203.0.113.10:80/tcp  10.0.0.1:8080   node-a  active         1  50.0 %
                       [fd00::2]:8080  node-b  active         1  50.0 %
                       10.0.0.3:8080   node-b  draining       0   0.0 %

traffic
  FRONTEND             SERVICE        PACKETS       BYTES  FLOWS  DELIVERED
  203.0.113.10:80/tcp  default/web  1,234,567  98,765,432  1,000    617,283

sessions
  PEER  ADDRESS    STATE        UP     HOLD  BFD        ROUTES  NOTE
  tor   192.0.2.1  established  1h02m  90s   up, 150ms       1  before: no answer

nodes
  NODE    STATE  REACHED BY  MAC                ADDRESSES
  node-b  live   l2          02:00:00:00:00:0b  192.0.2.12

findings
  WHERE       OBJECT               FIELD               WHAT
  web.yaml:7  Service default/web  spec.ports[0].port  want 1 to 65535, found 0
"
    );
}

#[test]
fn an_agent_without_objects_shows_its_head_only() {
    let text = render(&Status::default());
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.contains("NOT in sync"), "{text}");
}

#[test]
fn the_json_form_reads_back() {
    let line = serde_json::to_string(&example()).unwrap();
    assert!(!line.contains('\n'));
    assert_eq!(serde_json::from_str::<Status>(&line).unwrap(), example());
}

#[test]
fn numbers_are_grouped_and_times_short() {
    assert_eq!(grouped(0), "0");
    assert_eq!(grouped(999), "999");
    assert_eq!(grouped(1_000_000), "1,000,000");
    assert_eq!(uptime(59), "59s");
    assert_eq!(uptime(61), "1m01s");
    assert_eq!(uptime(90_000), "1d01h");
}
