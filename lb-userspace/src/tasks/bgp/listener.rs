//! Lets peers connect to us: listening ports, and who may come to them.
//!
//! Nobody listens until a BGPPeer asks for it (`torline.io/connect`, `torline.io/listen-range`), so that another
//! BGP daemon of the node may have port 179. Where every peer of a port names the address of ours that it comes
//! to (`spec.sourceAddress`), no other is taken. A port that is taken is tried again, and its peers say so in
//! their status.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures::future::{pending, select_all};
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::Incoming;
use super::parameters::socket_options;
use crate::model::intent::SessionConfig;
use crate::net::bgp_listener::{ListenError, Listener, Place};
use crate::net::bgp_socket::{Connection, SocketOptions};
use crate::net::tcp_md5::Md5Key;

/// Where peers connect, unless they are told otherwise (RFC 4271 §8.2.1).
const PORT: u16 = 179;
/// Between attempts to open a port, and after an accept that failed.
const RETRY: Duration = Duration::from_secs(5);

/// A BGPPeer that may connect.
#[derive(Clone, Copy, Debug)]
pub struct Invitation<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it is configured.
    pub config: &'a SessionConfig,
    /// Where its connections go, and why none can come.
    pub incoming: &'a mpsc::Sender<Incoming>,
}

/// A connection from a listen range.
#[derive(Debug)]
pub struct Stranger {
    /// BGPPeer of the range.
    pub range: String,
    /// Who it is.
    pub from: IpAddr,
    /// The connection.
    pub connection: Connection,
}

#[derive(Clone, Debug)]
struct Guest {
    name: String,
    /// One address, or a listen range.
    peers: IpNet,
    is_range: bool,
    /// The address of ours that it comes to.
    source: Option<IpAddr>,
    options: SocketOptions,
    incoming: mpsc::Sender<Incoming>,
}

impl Guest {
    fn new(invitation: &Invitation<'_>) -> Self {
        let config = invitation.config;
        let range = config.options.listen_range;
        Self {
            name: invitation.name.to_owned(),
            peers: range.map_or_else(|| config.peer_address.into(), |range| range.network),
            is_range: range.is_some(),
            source: config.source_address,
            options: socket_options(config),
            incoming: invitation.incoming.clone(),
        }
    }

    /// Whether a connection between these addresses may be of this guest.
    fn admits(&self, from: IpAddr, local: IpAddr) -> bool {
        self.peers.contains(&from) && self.source.is_none_or(|source| source == local)
    }

    /// Where it comes to.
    fn place(&self) -> Place {
        let any: IpAddr = match self.peers {
            IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Place {
            device: self.options.device.clone(),
            address: self.source.unwrap_or(any),
        }
    }
}

/// The guest of a connection: the one that says most about it.
fn host(guests: &[Guest], from: IpAddr, local: IpAddr) -> Option<&Guest> {
    let admitting = guests.iter().filter(|guest| guest.admits(from, local));
    admitting.max_by_key(|guest| (guest.peers.prefix_len(), guest.source.is_some()))
}

/// All listening ports.
#[derive(Debug, Default)]
pub struct Doors {
    doors: BTreeMap<u16, Door>,
    strangers: Option<mpsc::Sender<Stranger>>,
}

#[derive(Debug)]
struct Door {
    guests: watch::Sender<Vec<Guest>>,
    task: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Doors {
    /// None yet; who comes from a listen range goes to `strangers`.
    pub fn new(strangers: mpsc::Sender<Stranger>) -> Self {
        Self {
            doors: BTreeMap::new(),
            strangers: Some(strangers),
        }
    }

    /// Opens and closes ports so that these peers can connect, and nobody else.
    pub fn follow<'a>(&mut self, invitations: impl Iterator<Item = Invitation<'a>>) {
        let mut wanted: BTreeMap<u16, Vec<Guest>> = BTreeMap::new();
        for invitation in invitations {
            let options = &invitation.config.options;
            if options.connect.listens() {
                let guests = wanted.entry(options.listen_port.unwrap_or(PORT));
                guests.or_default().push(Guest::new(&invitation));
            }
        }
        self.doors.retain(|port, _| wanted.contains_key(port));
        for (port, guests) in wanted {
            match self.doors.get(&port) {
                Some(door) => {
                    door.guests.send_replace(guests);
                }
                None => {
                    let (guests, watched) = watch::channel(guests);
                    let task = tokio::spawn(keep_open(port, watched, self.strangers.clone()));
                    self.doors.insert(port, Door { guests, task });
                }
            }
        }
    }
}

async fn keep_open(
    port: u16,
    mut guests: watch::Receiver<Vec<Guest>>,
    strangers: Option<mpsc::Sender<Stranger>>,
) {
    let mut sockets = Sockets::default();
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = guests.changed() => if changed.is_err() { return },
            // The first tick comes at once.
            _ = retry.tick() => {}
            accepted = sockets.accept() => {
                match accepted {
                    Ok((stream, from)) => {
                        let_in(stream, from, &guests.borrow(), strangers.as_ref());
                        continue;
                    }
                    Err(error) => warn!(port, %error, "a BGP connection cannot be accepted"),
                }
                retry.tick().await;
            }
        }
        let wanted = guests.borrow_and_update().clone();
        if let Err(error) = sockets.follow(port, &wanted) {
            for guest in &wanted {
                // A peer that has not heard the last time yet need not hear it twice.
                let _ = guest.incoming.try_send(Err(error.clone()));
            }
        }
    }
}

/// Hands a connection to its peer.
fn let_in(
    stream: TcpStream,
    from: IpAddr,
    guests: &[Guest],
    strangers: Option<&mpsc::Sender<Stranger>>,
) {
    let Ok(local) = stream.local_addr().map(|local| local.ip()) else {
        return;
    };
    let Some(guest) = host(guests, from, local) else {
        debug!(%from, %local, "a BGP connection of nobody who is configured is closed");
        return;
    };
    let connection = match Connection::accepted(stream, &guest.options) {
        Ok(connection) => connection,
        Err(error) => return debug!(%from, %error, "a BGP connection cannot be taken"),
    };
    // Where one waits to be taken already, this one is too many.
    if !guest.is_range {
        let _ = guest.incoming.try_send(Ok(connection));
    } else if let Some(strangers) = strangers {
        let _ = strangers.try_send(Stranger {
            range: guest.name.clone(),
            from,
            connection,
        });
    }
}

type Keys = BTreeMap<IpNet, Md5Key>;

/// The sockets of a port, and the keys that the kernel holds for each.
#[derive(Default)]
struct Sockets(BTreeMap<Place, (Listener, Keys)>);

impl Sockets {
    async fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        if self.0.is_empty() {
            return pending().await;
        }
        let accepting = self.0.values().map(|(socket, _)| Box::pin(socket.accept()));
        select_all(accepting).await.0
    }

    /// Opens what is missing, and gives the kernel the keys of those who may come.
    fn follow(&mut self, port: u16, guests: &[Guest]) -> Result<(), ListenError> {
        let places = places(guests);
        self.0.retain(|place, _| places.contains(place));
        for place in places {
            if !self.0.contains_key(&place) {
                let socket = Listener::bind(&place, port)?;
                info!(port, address = %place.address, "peers may connect");
                self.0.insert(place.clone(), (socket, Keys::new()));
            }
            if let Some((socket, keys)) = self.0.get_mut(&place) {
                let wanted = keys_of(guests, &place);
                follow_keys(socket, keys, wanted).map_err(|error| ListenError::Failed {
                    port,
                    cause: format!("TCP_MD5SIG: {error}"),
                })?;
            }
        }
        Ok(())
    }
}

/// Where to listen: two sockets may not have a port both for one address and for all of them.
fn places(guests: &[Guest]) -> BTreeSet<Place> {
    let all: BTreeSet<Place> = guests.iter().map(Guest::place).collect();
    let covers = |wide: &Place, narrow: &Place| {
        let is_same = wide.address.is_ipv4() == narrow.address.is_ipv4();
        is_same && wide.device == narrow.device && wide.address.is_unspecified()
    };
    let is_covered = |place: &&Place| {
        let mut others = all.iter().filter(|other| other != place);
        others.any(|other| covers(other, place))
    };
    all.iter()
        .filter(|place| !is_covered(place))
        .cloned()
        .collect()
}

/// The keys of those who may come to a socket.
fn keys_of(guests: &[Guest], place: &Place) -> Keys {
    let comes = |guest: &&Guest| {
        let at = guest.place();
        at.device == place.device
            && at.address.is_ipv4() == place.address.is_ipv4()
            && (at.address == place.address || place.address.is_unspecified())
    };
    let keyed = guests.iter().filter(comes);
    let keyed = keyed.filter_map(|guest| Some((guest.peers, guest.options.md5_key.clone()?)));
    keyed.collect()
}

fn follow_keys(socket: &Listener, held: &mut Keys, wanted: Keys) -> io::Result<()> {
    // RFC 2385 §4.5: the key that was there ends first.
    let stale: Vec<_> = held
        .extract_if(.., |peers, key| wanted.get(peers) != Some(key))
        .collect();
    for (peers, _) in stale {
        socket.set_key(peers, None)?;
    }
    for (peers, key) in wanted {
        if let Entry::Vacant(missing) = held.entry(peers) {
            socket.set_key(peers, Some(&key))?;
            missing.insert(key);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::tasks::bgp::tests::intent;

    fn invitation<'a>(
        config: &'a SessionConfig,
        incoming: &'a mpsc::Sender<Incoming>,
    ) -> Invitation<'a> {
        Invitation {
            name: "tor",
            config,
            incoming,
        }
    }

    fn guest(peers: &str, source: Option<&str>) -> Guest {
        let config = intent("127.0.0.1:179".parse().unwrap()).config;
        Guest {
            name: peers.to_owned(),
            peers: peers.parse().unwrap(),
            is_range: !peers.ends_with("/32"),
            source: source.map(|addr| addr.parse().unwrap()),
            options: socket_options(&config),
            incoming: mpsc::channel(1).0,
        }
    }

    #[test]
    fn a_connection_is_of_the_guest_that_names_both_its_ends() {
        let guests = [
            guest("10.0.0.0/8", None),
            guest("10.0.0.1/32", None),
            guest("10.0.0.1/32", Some("192.0.2.2")),
            guest("10.0.0.3/32", Some("192.0.2.2")),
        ];
        let of = |from: &str, local: &str| {
            let host = host(&guests, from.parse().unwrap(), local.parse().unwrap());
            host.map(|guest| (guest.name.as_str(), guest.source.is_some()))
        };
        assert_eq!(of("10.0.0.1", "192.0.2.2"), Some(("10.0.0.1/32", true)));
        assert_eq!(of("10.0.0.1", "192.0.2.1"), Some(("10.0.0.1/32", false)));
        // Its own guest wants another address of ours: what is left is the range.
        assert_eq!(of("10.0.0.3", "192.0.2.1"), Some(("10.0.0.0/8", false)));
        assert_eq!(of("10.0.0.9", "192.0.2.1"), Some(("10.0.0.0/8", false)));
        assert_eq!(of("198.51.100.1", "192.0.2.1"), None);
    }

    #[test]
    fn addresses_are_listened_on_one_by_one_unless_somebody_may_come_to_any() {
        let addresses = |guests: &[Guest]| -> Vec<String> {
            let places = places(guests).into_iter();
            places.map(|place| place.address.to_string()).collect()
        };
        let mut guests = vec![
            guest("10.0.0.1/32", Some("192.0.2.1")),
            guest("10.0.0.2/32", Some("192.0.2.2")),
            guest("fd00::/64", None),
        ];
        assert_eq!(addresses(&guests), ["192.0.2.1", "192.0.2.2", "::"]);
        guests.push(guest("10.0.0.3/32", None));
        assert_eq!(addresses(&guests), ["0.0.0.0", "::"]);
    }

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
        doors.follow(std::iter::once(invitation(&config, &incoming)));
        let refused = timeout(LIMIT, accepted.recv()).await.unwrap().unwrap();
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("another BGP daemon"), "{told}");

        drop(free);
        let connected = async {
            loop {
                doors.follow(std::iter::once(invitation(&config, &incoming)));
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
