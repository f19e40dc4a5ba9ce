//! Lets peers connect to us: one listening port, and who may come to it.
//!
//! Nobody listens until a BGPPeer asks for it (`torline.io/connect`), so that another BGP daemon of the node
//! may have port 179. A port that is taken is tried again, and its peers say so in their status.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::pending;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::Incoming;
use super::parameters::socket_options;
use crate::model::intent::SessionConfig;
use crate::net::bgp_listener::{ListenError, Listener};
use crate::net::bgp_socket::{Connection, SocketOptions};

/// Where peers connect, unless they are told otherwise (RFC 4271 §8.2.1).
const PORT: u16 = 179;
/// Between attempts to open a port, and after an accept that failed.
const RETRY: Duration = Duration::from_secs(5);

/// A peer that may connect.
#[derive(Clone, Debug)]
pub struct Guest {
    options: SocketOptions,
    incoming: mpsc::Sender<Incoming>,
}

type Guests = BTreeMap<IpAddr, Guest>;

/// All listening ports.
#[derive(Debug, Default)]
pub struct Doors(BTreeMap<u16, Door>);

#[derive(Debug)]
struct Door {
    guests: watch::Sender<Guests>,
    task: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Doors {
    /// Opens and closes ports so that these peers can connect, and nobody else.
    pub fn follow<'a>(
        &mut self,
        peers: impl Iterator<Item = (&'a SessionConfig, &'a mpsc::Sender<Incoming>)>,
    ) {
        let mut wanted: BTreeMap<u16, Guests> = BTreeMap::new();
        for (config, incoming) in peers.filter(|(config, _)| config.options.connect.listens()) {
            let port = config.options.listen_port.unwrap_or(PORT);
            let guest = Guest {
                options: socket_options(config),
                incoming: incoming.clone(),
            };
            let guests = wanted.entry(port).or_default();
            guests.insert(config.peer_address, guest);
        }
        self.0.retain(|port, _| wanted.contains_key(port));
        for (port, guests) in wanted {
            match self.0.get(&port) {
                Some(door) => {
                    door.guests.send_replace(guests);
                }
                None => {
                    let (guests, watched) = watch::channel(guests);
                    let task = tokio::spawn(keep_open(port, watched));
                    self.0.insert(port, Door { guests, task });
                }
            }
        }
    }
}

/// The sockets of a port, where somebody of their family may come.
#[derive(Default)]
struct Sockets {
    v4: Option<Listener>,
    v6: Option<Listener>,
    /// Whose key, if any, the kernel holds.
    keyed: BTreeMap<IpAddr, SocketOptions>,
}

async fn keep_open(port: u16, mut guests: watch::Receiver<Guests>) {
    let mut sockets = Sockets::default();
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = guests.changed() => if changed.is_err() { return },
            // The first tick comes at once.
            _ = retry.tick() => {}
            accepted = accept(sockets.v4.as_ref()) => {
                if let_in(accepted, &guests.borrow()) { continue }
                retry.tick().await;
            }
            accepted = accept(sockets.v6.as_ref()) => {
                if let_in(accepted, &guests.borrow()) { continue }
                retry.tick().await;
            }
        }
        let wanted = guests.borrow_and_update().clone();
        if let Err(error) = sockets.follow(port, &wanted) {
            for guest in wanted.values() {
                // A peer that has not heard the last time yet need not hear it twice.
                let _ = guest.incoming.try_send(Err(error.clone()));
            }
        }
    }
}

async fn accept(listener: Option<&Listener>) -> io::Result<(TcpStream, IpAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => pending().await,
    }
}

/// Hands a connection to its peer; false if there was none to be had.
fn let_in(accepted: io::Result<(TcpStream, IpAddr)>, guests: &Guests) -> bool {
    let (stream, from) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            warn!(%error, "a BGP connection cannot be accepted");
            return false;
        }
    };
    let Some(guest) = guests.get(&from) else {
        debug!(%from, "a BGP connection from nobody's address is closed");
        return true;
    };
    match Connection::accepted(stream, &guest.options) {
        // Where one waits to be taken already, this one is too many.
        Ok(connection) => drop(guest.incoming.try_send(Ok(connection))),
        Err(error) => debug!(%from, %error, "a BGP connection cannot be taken"),
    }
    true
}

impl Sockets {
    /// Opens what is missing and gives the kernel the keys of those who may come.
    fn follow(&mut self, port: u16, guests: &Guests) -> Result<(), ListenError> {
        for (socket, is_v4) in [(&mut self.v4, true), (&mut self.v6, false)] {
            let is_wanted = guests.keys().any(|addr| addr.is_ipv4() == is_v4);
            if !is_wanted {
                *socket = None;
                self.keyed.retain(|addr, _| addr.is_ipv4() != is_v4);
            } else if socket.is_none() {
                *socket = Some(Listener::bind(is_v4, port)?);
                let family = if is_v4 { "IPv4" } else { "IPv6" };
                info!(port, family, "peers may connect");
            }
        }
        let gone: Vec<_> = self
            .keyed
            .keys()
            .filter(|addr| !guests.contains_key(addr))
            .copied()
            .collect();
        for addr in gone {
            self.keyed.remove(&addr);
            self.set_key(port, addr, None)?;
        }
        for (addr, guest) in guests {
            let known = self.keyed.get(addr).map(|options| &options.md5_key);
            if known != Some(&guest.options.md5_key) {
                self.set_key(port, *addr, Some(&guest.options))?;
                self.keyed.insert(*addr, guest.options.clone());
            }
        }
        Ok(())
    }

    fn set_key(
        &self,
        port: u16,
        addr: IpAddr,
        options: Option<&SocketOptions>,
    ) -> Result<(), ListenError> {
        let socket = if addr.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else {
            return Ok(());
        };
        let key = options.and_then(|options| options.md5_key.as_ref());
        // RFC 2385 §4.5: the key that was there ends first.
        let set = socket
            .set_key(addr, None)
            .and_then(|()| key.map_or(Ok(()), |key| socket.set_key(addr, Some(key))));
        set.map_err(|error| ListenError::Failed {
            port,
            cause: format!("TCP_MD5SIG for {addr}: {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::tasks::bgp::tests::intent;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_configured_peer_is_let_in_and_a_taken_port_is_named() {
        let free = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let mut config = intent("127.0.0.1:179".parse().unwrap()).config;
        config.options.connect = crate::model::peer_options::Connect::Both;
        config.options.listen_port = Some(port);
        let (incoming, mut accepted) = mpsc::channel(1);
        let mut doors = Doors::default();
        doors.follow(std::iter::once((&config, &incoming)));
        let refused = timeout(LIMIT, accepted.recv()).await.unwrap().unwrap();
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("another BGP daemon"), "{told}");

        drop(free);
        let connected = async {
            loop {
                doors.follow(std::iter::once((&config, &incoming)));
                if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                    break stream;
                }
                tokio::task::yield_now().await;
            }
        };
        let _stream = timeout(LIMIT, connected).await.unwrap();
        let taken = async {
            loop {
                if let Ok(connection) = accepted.recv().await.unwrap() {
                    break connection;
                }
            }
        };
        let connection = timeout(LIMIT, taken).await.unwrap();
        assert!(connection.local_address().unwrap().is_loopback());

        doors.follow(std::iter::empty());
        let closed = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, closed).await.unwrap();
    }
}
