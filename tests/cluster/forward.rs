//! A port of a namespace's loopback that leads to an address outside.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use anyhow::{Context, Result};
use harness::netns::Netns;
use nix::sys::socket;

/// Joins every connection to a port inside with one outside, until it is dropped.
pub(crate) struct Forward {
    listener: TcpListener,
    /// Where it listens inside.
    pub(crate) address: SocketAddr,
}

impl Forward {
    /// Listens on the loopback of `netns` and leads to `to`.
    pub(crate) fn new(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let listener = netns
            .enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("listen inside the namespace")?;
        let address = listener.local_addr()?;
        let incoming = listener.try_clone()?;
        thread::spawn(move || {
            while let Ok((inside, _)) = incoming.accept() {
                // Without an answer outside there is none inside.
                if let Ok(outside) = TcpStream::connect(to) {
                    let _ = join(&inside, &outside);
                }
            }
        });
        Ok(Self { listener, address })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Wakes the thread that accepts.
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
    }
}

fn join(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
