//! From ARP to BGP and back, while somebody pings.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use harness::machine;
use harness::traffic::ping::ping;
use harness::wait;

use crate::device::{Device, LIMIT, VIP};
use crate::transcript::SET;

/// How long an answer may take before it counts as lost: the kernel asks for an address each second.
const PATIENCE: Duration = Duration::from_millis(900);

#[test]
fn the_first_peer_and_the_last_turn_over_without_a_gap() {
    if !machine::can_test() {
        return;
    }
    let device = Device::new().unwrap();
    let vip: IpAddr = VIP.parse().unwrap();
    wait::until("an answer", LIMIT, || {
        ping(&device.tor, vip, b"first", PATIENCE)
    })
    .unwrap();
    let is_over = AtomicBool::new(false);
    let leader = || device.status().unwrap().services[0].l2_leader.clone();
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| -> Result<u32> {
            let mut answered: u32 = 0;
            while !is_over.load(Ordering::Relaxed) {
                ping(&device.tor, vip, &answered.to_be_bytes(), PATIENCE)?;
                answered += 1;
            }
            Ok(answered)
        });
        let turned = || -> Result<()> {
            assert_eq!(device.types(SET)?.code, Some(0));
            device.await_session("Established")?;
            device.await_route(true)?;
            wait::until("ARP to be left to BGP", LIMIT, || {
                anyhow::ensure!(leader().is_none(), "still answered");
                Ok(())
            })?;
            let line = "Remove-HcsBGPPeer -PeerAddress 10.126.77.125 -SwitchName vSwitch1";
            assert_eq!(device.types(line)?.code, Some(0));
            device.await_route(false)?;
            wait::until("ARP to be answered again", LIMIT, || {
                anyhow::ensure!(leader().is_some(), "not answered");
                Ok(())
            })
        };
        let outcome = turned();
        is_over.store(true, Ordering::Relaxed);
        let answered = pings.join().unwrap();
        outcome.unwrap();
        assert!(answered.unwrap() > 10);
    });
    ping(&device.tor, vip, b"last", PATIENCE).unwrap();
}
