//! Finds the peer of an unnumbered session, and lets it find us.
//!
//! Both go by router advertisements on the interface. What was found stays until another router is heard, so
//! that a session which is lost is dialed again at once.

use std::future::pending;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use crate::net::router_socket::RouterSocket;
use crate::proto::router_advertisement::{INTERVAL, Message, encode, solicit};

/// Before an interface that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Looks for the peer on an interface for as long as it is kept.
#[derive(Debug)]
pub(super) struct Discovery {
    found: watch::Receiver<Option<(Ipv6Addr, u32)>>,
    task: JoinHandle<()>,
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Discovery {
    pub(super) fn start(interface: String) -> Self {
        let (publish, found) = watch::channel(None);
        let task = tokio::spawn(run(interface, publish));
        Self { found, task }
    }

    /// Waits for the peer; `port` is where it listens.
    pub(super) fn peer(&self, port: u16) -> impl Future<Output = SocketAddrV6> + Send + use<> {
        let mut found = self.found.clone();
        async move {
            let known = found.wait_for(Option::is_some).await;
            match known.ok().and_then(|known| *known) {
                Some((addr, index)) => SocketAddrV6::new(addr, port, 0, index),
                // The session ends, and this with it.
                None => pending().await,
            }
        }
    }
}

async fn run(interface: String, publish: watch::Sender<Option<(Ipv6Addr, u32)>>) {
    let mut is_warned = false;
    loop {
        let Err(error) = watch_interface(&interface, &publish).await;
        if !is_warned {
            warn!(interface, %error, "the peer on this interface cannot be looked for");
        }
        is_warned = true;
        sleep(RETRY).await;
    }
}

/// Never returns but with an error.
async fn watch_interface(
    interface: &str,
    publish: &watch::Sender<Option<(Ipv6Addr, u32)>>,
) -> io::Result<std::convert::Infallible> {
    let socket = RouterSocket::open(interface)?;
    let advertisement = encode(None);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = [0; 1500];
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                socket.send_to_nodes(&advertisement).await?;
                if publish.borrow().is_none() {
                    socket.send_to_routers(&solicit()).await?;
                }
            }
            received = socket.receive(&mut buffer) => {
                let (from, length) = received?;
                match Message::decode(buffer.get(..length).unwrap_or_default()) {
                    Some(Message::Solicitation) => socket.send_to_nodes(&advertisement).await?,
                    Some(Message::Advertisement) => {
                        let peer = Some((from, socket.index()));
                        if publish.send_replace(peer) != peer {
                            info!(interface, %from, "found the router of this interface");
                        }
                    }
                    None => {}
                }
            }
        }
    }
}
