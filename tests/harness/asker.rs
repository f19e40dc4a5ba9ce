//! Asks by ARP and NDP who has an address, again and again, as no kernel does.

use std::net::IpAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};
use lb_userspace::net::packet_socket::PacketSocket;
use lb_userspace::proto::announcement::solicited_node;

use crate::frame::transport_checksum;
use crate::netns::Netns;

/// Asks until dropped.
#[derive(Debug)]
pub struct Asker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    /// Begins: in the namespace of a host with these addresses (v4, v6) on its `eth0`, for each of `targets`, at once
    /// and then every `interval`.
    ///
    /// # Errors
    /// When no thread or socket is to be had.
    pub fn start(
        host: &Netns,
        own: [IpAddr; 2],
        targets: &[IpAddr],
        interval: Duration,
    ) -> Result<Self> {
        let mac = host.run(["cat", "/sys/class/net/eth0/address"])?;
        let octets = mac
            .trim()
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16));
        let mac: Vec<u8> = octets.collect::<Result<_, _>>()?;
        let frames = targets.iter().map(|target| question(&mac, own, *target));
        let frames: Vec<_> = frames.collect::<Result<_>>()?;
        let socket = host.enter(|| PacketSocket::open("eth0"))?;
        let (stop, stopped) = mpsc::channel();
        let thread = host.spawn(move || {
            loop {
                for frame in &frames {
                    // What is not sent is asked the next time.
                    let _ = socket.try_send(frame);
                }
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An ARP request, or a neighbour solicitation with its source option.
fn question(mac: &[u8], [own4, own6]: [IpAddr; 2], target: IpAddr) -> Result<Vec<u8>> {
    match (own4, own6, target) {
        (IpAddr::V4(own), _, IpAddr::V4(target)) => Ok([
            &[0xff; 6][..],
            mac,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            mac,
            &own.octets(),
            &[0; 6],
            &target.octets(),
        ]
        .concat()),
        (_, IpAddr::V6(own), IpAddr::V6(target)) => {
            let group = solicited_node(target);
            let [.., a, b, c, d] = group.octets();
            let mut message = [
                &[135, 0, 0, 0, 0, 0, 0, 0][..],
                &target.octets(),
                &[1, 1],
                mac,
            ]
            .concat();
            let sum = transport_checksum(own.into(), group.into(), 58, &message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Ok([
                &[0x33, 0x33, a, b, c, d][..],
                mac,
                &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255],
                &own.octets(),
                &group.octets(),
                &message,
            ]
            .concat())
        }
        _ => bail!("{target} is of no family of the host"),
    }
}
