//! Clients that open many connections, keep them, and find out later which
//! still live.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Greeting;
use crate::netns::Netns;

/// Connections being opened or tried at the same time.
const CONCURRENCY: usize = 64;
/// After this long one makes room for another and waits on.
const PATIENCE: Duration = Duration::from_millis(200);

/// Opens connections from one namespace.
#[derive(Debug)]
pub struct Client<'a> {
    netns: &'a Netns,
    runtime: Runtime,
    /// How long an opening or an answer may take.
    pub limit: Duration,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    /// Of no client's event queue, so that any client can go on with it.
    stream: std::net::TcpStream,
    /// What the pod said.
    pub greeting: Greeting,
    /// Our end.
    pub local: SocketAddr,
    /// The end we connected to.
    pub target: SocketAddr,
}

/// A socket that sent a datagram to a Service and got it back.
#[derive(Debug)]
pub struct Association {
    /// Of no client's event queue, as a connection's.
    socket: std::net::UdpSocket,
    /// What the pod said.
    pub greeting: Greeting,
}

/// Which of a number of attempts went well.
#[derive(Debug)]
pub struct Outcome<T> {
    /// Those that did.
    pub good: Vec<T>,
    /// Why the others did not.
    pub bad: Vec<anyhow::Error>,
}

impl<T> Outcome<T> {
    /// How many there were.
    pub const fn attempted(&self) -> usize {
        self.good.len() + self.bad.len()
    }

    /// The good ones.
    ///
    /// # Errors
    /// When one was bad: says how many and why the first.
    pub fn all(self) -> Result<Vec<T>> {
        let (attempted, bad) = (self.attempted(), self.bad.len());
        match self.bad.into_iter().next() {
            None => Ok(self.good),
            Some(first) => Err(first.context(format!("{bad} of {attempted} failed, the first"))),
        }
    }
}

impl<'a> Client<'a> {
    /// A client in that namespace, with a limit of five seconds.
    ///
    /// # Errors
    /// When no event queue is to be had.
    pub fn new(netns: &'a Netns) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            netns,
            runtime,
            limit: Duration::from_secs(5),
        })
    }

    /// Opens connections and keeps them open.
    pub fn open(&self, target: SocketAddr, count: usize) -> Outcome<Connection> {
        self.all((0..count).map(|_| Connection::open(target)))
    }

    /// Opens a connection from each of these addresses and ports.
    pub fn open_from<S>(&self, sources: S, target: SocketAddr) -> Outcome<Connection>
    where
        S: IntoIterator<Item = SocketAddr, IntoIter: Send>,
    {
        let sources = sources.into_iter();
        self.all(sources.map(|source| Connection::open_from(source, target)))
    }

    /// Sends something over each connection and expects it back; the good ones still live.
    pub fn verify(&self, connections: Vec<Connection>) -> Outcome<Connection> {
        let numbered = connections.into_iter().enumerate();
        self.all(numbered.map(|(nonce, connection)| async move {
            let Connection {
                local, greeting, ..
            } = &connection;
            let broken = format!("connection from {local} to {}", greeting.pod);
            connection.exchange(nonce as u64).await.context(broken)
        }))
    }

    /// Sends one datagram from each of `count` sockets and expects it back.
    pub fn datagrams(&self, target: SocketAddr, count: usize) -> Outcome<Association> {
        self.all((0..count).map(|nonce| Association::open(target, nonce as u64)))
    }

    /// Sends another datagram from each of these sockets and expects it back, of the same pod; the good ones
    /// still have it.
    pub fn ask(&self, associations: Vec<Association>) -> Outcome<Association> {
        let numbered = associations.into_iter().enumerate();
        self.all(numbered.map(|(nonce, association)| association.again(nonce as u64)))
    }

    /// Sends `bytes` that are never twice the same and expects them back in order.
    ///
    /// # Errors
    /// When they come back changed or not in time.
    pub fn transfer(&self, target: SocketAddr, bytes: usize) -> Result<()> {
        self.all([transfer(target, bytes)]).all().map(drop)
    }

    /// Tries a connection every `interval` in the background, each for at most `limit`.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn probe(
        netns: &Netns,
        target: SocketAddr,
        interval: Duration,
        limit: Duration,
    ) -> Result<Probe> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let (stop, mut stopped) = oneshot::channel::<()>();
        let done = Arc::clone(&attempts);
        let body = async move {
            let mut tick = tokio::time::interval(interval);
            loop {
                tokio::select! {
                    _ = tick.tick() => drop(tokio::spawn(attempt(target, limit, Arc::clone(&done)))),
                    _ = &mut stopped => break,
                }
            }
        };
        let thread = netns.spawn(move || runtime.block_on(body))?;
        Ok(Probe {
            attempts,
            limit,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    fn all<T, F>(&self, attempts: impl IntoIterator<Item = F> + Send) -> Outcome<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let limit = self.limit;
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        self.netns.enter(|| {
            self.runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for attempt in attempts {
                    let permits = Arc::clone(&permits);
                    tasks.spawn(async move {
                        let permit = permits.acquire().await?;
                        let mut attempt = pin!(timeout(limit, attempt));
                        let outcome = timeout(PATIENCE, &mut attempt).await;
                        drop(permit);
                        let outcome = match outcome {
                            Ok(outcome) => outcome,
                            Err(_) => attempt.await,
                        };
                        outcome.with_context(|| format!("no end in {limit:?}"))?
                    });
                }
                let mut outcome = Outcome {
                    good: Vec::new(),
                    bad: Vec::new(),
                };
                for result in tasks.join_all().await {
                    match result {
                        Ok(good) => outcome.good.push(good),
                        Err(bad) => outcome.bad.push(bad),
                    }
                }
                outcome
            })
        })
    }
}

impl Connection {
    async fn open(target: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(target).await.context("connect")?;
        Self::greeted(stream, target).await
    }

    async fn open_from(source: SocketAddr, target: SocketAddr) -> Result<Self> {
        let socket = if source.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // A client may use one port for two destinations.
        socket.set_reuseaddr(true)?;
        socket
            .bind(source)
            .with_context(|| format!("bind {source}"))?;
        let stream = socket.connect(target).await.context("connect")?;
        Self::greeted(stream, target).await
    }

    async fn greeted(stream: TcpStream, target: SocketAddr) -> Result<Self> {
        let (stream, greeting) = greeting(stream).await?;
        Ok(Self {
            local: stream.local_addr()?,
            stream: stream.into_std()?,
            greeting,
            target,
        })
    }

    async fn exchange(self, nonce: u64) -> Result<Self> {
        let mut stream = TcpStream::from_std(self.stream)?;
        stream.write_u64(nonce).await.context("write")?;
        let back = stream.read_u64().await.context("read")?;
        ensure!(back == nonce, "sent {nonce}, got {back}");
        Ok(Self {
            stream: stream.into_std()?,
            ..self
        })
    }
}

async fn greeting(stream: TcpStream) -> Result<(TcpStream, Greeting)> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream
        .read_line(&mut line)
        .await
        .context("read the greeting")?;
    // A pod says nothing more until it is spoken to: nothing is left in the buffer.
    Ok((stream.into_inner(), Greeting::parse(&line)?))
}

impl Association {
    async fn open(target: SocketAddr, nonce: u64) -> Result<Self> {
        let any = if target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(target).await?;
        Ok(Self {
            greeting: datagram(&socket, nonce).await?,
            socket: socket.into_std()?,
        })
    }

    async fn again(self, nonce: u64) -> Result<Self> {
        let socket = UdpSocket::from_std(self.socket)?;
        let greeting = datagram(&socket, nonce).await?;
        let (was, is) = (&self.greeting.pod, &greeting.pod);
        ensure!(was == is, "{was} answered, then {is}");
        Ok(Self {
            socket: socket.into_std()?,
            greeting,
        })
    }
}

async fn datagram(socket: &UdpSocket, nonce: u64) -> Result<Greeting> {
    socket.send(&nonce.to_be_bytes()).await?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).await.context("receive")?;
    let reply = reply.get(..length).context("longer than the buffer")?;
    let Some((line, payload)) = reply.split_last_chunk() else {
        bail!("{length} octets")
    };
    ensure!(
        *payload == nonce.to_be_bytes(),
        "sent {nonce}, got {payload:?}"
    );
    Greeting::parse(str::from_utf8(line)?)
}

async fn transfer(target: SocketAddr, bytes: usize) -> Result<()> {
    let stream = TcpStream::connect(target).await.context("connect")?;
    let (stream, _) = greeting(stream).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sender = tokio::spawn(async move {
        for word in 0..bytes / 8 / WORDS {
            writer.write_all(&block(word)).await?;
        }
        std::io::Result::Ok(writer)
    });
    let mut received = vec![0; 8 * WORDS];
    for word in 0..bytes / 8 / WORDS {
        reader.read_exact(&mut received).await.context("read")?;
        ensure!(received == block(word), "block {word} came back changed");
    }
    sender.await??;
    Ok(())
}

/// 64-bit words in a block of a transfer.
const WORDS: usize = 1024;

/// A block whose every word tells its place.
fn block(number: usize) -> Vec<u8> {
    let words = (number * WORDS..(number + 1) * WORDS).map(|word| word as u64);
    // An odd multiplier maps different places to different words.
    words
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
        .collect()
}

/// Connections tried in the background, until dropped.
#[derive(Debug)]
pub struct Probe {
    attempts: Arc<Mutex<Vec<Attempt>>>,
    limit: Duration,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    started: Instant,
    succeeded: bool,
}

impl Probe {
    /// How long after `event` the last attempt began that failed; `None` if none did.
    ///
    /// # Errors
    /// As long as it is not clear: when nothing that began in the last second before the newest success
    /// failed, and failures of that second would be known, it is.
    pub fn recovery(&self, event: Instant) -> Result<Option<Duration>> {
        let settled = Duration::from_secs(1).max(self.limit * 2);
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |succeeded| {
            let of_kind = attempts
                .iter()
                .filter(|attempt| attempt.succeeded == succeeded);
            of_kind.map(|attempt| attempt.started).max()
        };
        let failure = last(false).filter(|started| *started > event);
        let calm = last(true).context("no attempt succeeded")?;
        let quiet = calm.saturating_duration_since(failure.unwrap_or(event));
        ensure!(
            quiet >= settled,
            "new connections succeed since {quiet:?} only"
        );
        Ok(failure.map(|started| started - event))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn attempt(target: SocketAddr, limit: Duration, done: Arc<Mutex<Vec<Attempt>>>) {
    let started = Instant::now();
    let opened = timeout(limit, Connection::open(target)).await;
    let succeeded = matches!(opened, Ok(Ok(_)));
    done.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Attempt { started, succeeded });
}

/// How many greetings each pod gave.
pub fn per_pod<'a>(greetings: impl IntoIterator<Item = &'a Greeting>) -> BTreeMap<String, usize> {
    let mut pods = BTreeMap::new();
    for greeting in greetings {
        *pods.entry(greeting.pod.clone()).or_default() += 1;
    }
    pods
}
