//! One connection of a session: dials, moves bytes, ends.

use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, SocketAddrV6};
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::time::{sleep_until, timeout};
use tracing::debug;

use super::clock;
use crate::net::bgp_socket::{Connection, DialError, DialOptions};
use crate::proto::bgp::session::Session;

/// Time for the last messages of a connection to leave, and for the peer to close.
const LINGER: Duration = Duration::from_secs(1);

type Dialing = Pin<Box<dyn Future<Output = Result<Connection, DialError>> + Send>>;

/// A session and its connection, or the attempt at one.
pub(super) struct Leg {
    pub(super) session: Session,
    dialing: Option<Dialing>,
    connection: Option<Connection>,
    unsent: Bytes,
}

/// What happened to a connection.
pub(super) enum Wake {
    Dialed(Result<Connection, DialError>),
    Read(io::Result<usize>),
    Writable,
    Timeout,
}

/// A connection and the last messages for it.
pub(super) struct Farewell {
    connection: Connection,
    messages: Vec<Bytes>,
}

impl Leg {
    pub(super) const fn new(session: Session, connection: Option<Connection>) -> Self {
        Self {
            session,
            dialing: None,
            connection,
            unsent: Bytes::new(),
        }
    }

    /// Waits for something to happen; nothing is lost if the future is dropped.
    pub(super) async fn wake(&mut self, buffer: &mut [u8]) -> Wake {
        let deadline = self.session.poll_timeout().map(|(at, _)| at);
        tokio::select! {
            dialed = ready(&mut self.dialing) => Wake::Dialed(dialed),
            read = read(self.connection.as_ref(), buffer) => Wake::Read(read),
            () = writable(self.connection.as_ref(), &self.unsent) => Wake::Writable,
            () = timer(deadline) => Wake::Timeout,
        }
    }

    /// Tells the session what happened.
    pub(super) fn handle(&mut self, wake: Wake, buffer: &[u8]) -> Result<(), DialError> {
        match wake {
            Wake::Dialed(result) => {
                self.dialing = None;
                let local = result.and_then(|connection| {
                    let local = connection.local_address();
                    self.connection = Some(connection);
                    local.map_err(DialError::Gone)
                });
                match local {
                    Ok(local) => self.session.handle_connected(local, clock()),
                    Err(error) => {
                        self.connection = None;
                        self.session.handle_disconnected(clock());
                        return Err(error);
                    }
                }
            }
            Wake::Read(Ok(length @ 1..)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                self.session.handle_bytes(bytes, clock());
            }
            Wake::Read(Ok(0) | Err(_)) => self.session.handle_disconnected(clock()),
            // What there is to write is written while settling.
            Wake::Writable => {}
            Wake::Timeout => self.session.handle_timeout(clock()),
        }
        Ok(())
    }

    /// The other end, if there is a connection.
    pub(super) fn peer_address(&self) -> Option<IpAddr> {
        self.connection.as_ref()?.peer_address().ok()
    }

    /// Begins to connect, to the peer that is `found` if it has to be.
    pub(super) fn dial(
        &mut self,
        mut options: DialOptions,
        found: Option<impl Future<Output = SocketAddrV6> + Send + 'static>,
    ) {
        self.dialing = Some(Box::pin(async move {
            if let Some(found) = found {
                options.peer = found.await.into();
            }
            Connection::dial(&options).await
        }));
    }

    /// Goes on with a connection that the peer made.
    pub(super) fn attach(&mut self, connection: Connection, local: IpAddr) {
        self.dialing = None;
        self.unsent = Bytes::new();
        self.connection = Some(connection);
        self.session.handle_connected(local, clock());
    }

    /// Goes on with the connection of another leg, which may have more to say than its session knows.
    pub(super) fn take_over(&mut self, other: Self) {
        self.dialing = None;
        self.connection = other.connection;
        self.unsent = other.unsent;
        self.session.take_over(other.session, clock());
    }

    /// Closes, or gives up connecting.
    pub(super) fn close(&mut self) {
        self.dialing = None;
        self.connection = None;
        self.unsent = Bytes::new();
    }

    /// Closes, and hands out what is still to be said.
    pub(super) fn take_farewell(&mut self) -> Option<Farewell> {
        let first = std::mem::take(&mut self.unsent);
        let more = std::iter::from_fn(|| self.session.poll_transmit());
        let messages = std::iter::once(first).chain(more).collect();
        let connection = self.connection.take();
        self.close();
        connection.map(|connection| Farewell {
            connection,
            messages,
        })
    }

    /// Writes until there is nothing to write or the connection is full; says whether the session may have
    /// something to say about it.
    pub(super) fn write(&mut self) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        loop {
            if self.unsent.is_empty() {
                match self.session.poll_transmit() {
                    Some(message) => self.unsent = message,
                    None => return false,
                }
            }
            match connection.try_write(&self.unsent) {
                Ok(0) => {
                    self.session.handle_blocked(clock());
                    return false;
                }
                Ok(written) => {
                    self.unsent.advance(written);
                    self.session.handle_written();
                }
                Err(_) => {
                    self.session.handle_disconnected(clock());
                    return true;
                }
            }
        }
    }
}

impl Farewell {
    /// Delivers the messages and closes, within a second.
    pub(super) async fn say(self) {
        let Self {
            connection,
            messages,
        } = self;
        let deliver = async {
            for mut message in messages {
                while !message.is_empty() {
                    let written = connection.try_write(&message)?;
                    message.advance(written);
                    if written == 0 {
                        connection.writable().await?;
                    }
                }
            }
            connection.drain().await
        };
        match timeout(LINGER, deliver).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error: io::Error = error;
                debug!(%error, "the peer closed before it had read everything");
            }
            Err(_) => debug!("the peer did not close in time"),
        }
    }
}

async fn ready(dialing: &mut Option<Dialing>) -> Result<Connection, DialError> {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}

async fn read(connection: Option<&Connection>, buffer: &mut [u8]) -> io::Result<usize> {
    match connection {
        Some(connection) => connection.read(buffer).await,
        None => pending().await,
    }
}

/// Waits for room only if there is something to write. A broken connection is for the reader to report.
async fn writable(connection: Option<&Connection>, unsent: &Bytes) {
    match connection.filter(|_| !unsent.is_empty()) {
        Some(connection) if connection.writable().await.is_ok() => {}
        _ => pending().await,
    }
}

/// Waits for a moment, if there is one.
pub(super) async fn timer(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
