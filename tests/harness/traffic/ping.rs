//! ICMP echo.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;
use crate::wait;

/// Sends one echo request from the namespace and waits for the reply with the same payload.
///
/// # Errors
/// When none comes within `limit`.
pub fn ping(from: &Netns, target: IpAddr, payload: &[u8], limit: Duration) -> Result<()> {
    from.enter(|| echo(target, payload, limit))
}

/// An echo request every few milliseconds, until dropped.
#[derive(Debug)]
pub struct Pinger {
    sent: Arc<Mutex<Vec<Sent>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    is_answered: bool,
}

/// What became of the requests of a [`Pinger`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinged {
    /// How many there were.
    pub sent: usize,
    /// How many were never answered.
    pub lost: usize,
    /// The longest time between two that were, less the time between any two.
    pub gap: Duration,
}

impl Pinger {
    /// Begins in a namespace.
    ///
    /// # Errors
    /// When no thread or socket is to be had.
    pub fn start(from: &Netns, target: IpAddr, interval: Duration) -> Result<Self> {
        let (sent, stop) = <(Arc<Mutex<Vec<_>>>, Arc<AtomicBool>)>::default();
        let socket = from.enter(|| open(target))?;
        let thread = {
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
            from.spawn(move || ping_on(&socket, target, interval, &sent, &stop))?
        };
        Ok(Self {
            sent,
            stop,
            thread: Some(thread),
        })
    }

    /// How long ago the newest request was sent that has an answer; none while there is none.
    pub fn last_answer(&self) -> Option<Instant> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter()
            .rev()
            .find(|sent| sent.is_answered)
            .map(|sent| sent.at)
    }

    /// Ends, after answers to the last request have had `limit`.
    ///
    /// # Errors
    /// When it could not go on, or nothing was answered.
    pub fn end(mut self, limit: Duration) -> Result<Pinged> {
        let last = Instant::now();
        // What was sent by now has its time; what is sent meanwhile does not count.
        let _ = wait::until("the last answer", limit, || {
            let answered = self.last_answer().is_some_and(|at| at >= last);
            answered.then_some(()).context("none")
        });
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .unwrap_or_else(|payload| resume_unwind(payload))?;
        }
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let before = || sent.iter().filter(|sent| sent.at <= last);
        let answered: Vec<_> = before().filter(|sent| sent.is_answered).collect();
        let gaps = answered.windows(2).map(|pair| pair[1].at - pair[0].at);
        let usual = sent.windows(2).map(|pair| pair[1].at - pair[0].at).min();
        Ok(Pinged {
            sent: before().count(),
            lost: before().count() - answered.len(),
            gap: gaps
                .max()
                .context("nothing was answered")?
                .saturating_sub(usual.unwrap_or_default()),
        })
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ping_on(
    socket: &Socket,
    target: IpAddr,
    interval: Duration,
    sent: &Mutex<Vec<Sent>>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut next = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let now = Instant::now();
        sent.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Sent {
                at: now,
                is_answered: false,
            });
        // While the neighbour is unknown the kernel may refuse; that is a loss.
        let _ = socket.send(&request(target, &number.to_be_bytes()));
        next = now.max(next) + interval;
        while let Some(left) = next
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            let Some(payload) = reply(socket, target, left)? else {
                break;
            };
            let number = payload.try_into().ok().map(u64::from_be_bytes);
            let number = number.and_then(|number| usize::try_from(number).ok());
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sent) = number.and_then(|number| sent.get_mut(number)) {
                sent.is_answered = true;
            }
        }
    }
    Ok(())
}

fn echo(target: IpAddr, payload: &[u8], limit: Duration) -> Result<()> {
    let socket = open(target)?;
    socket.send(&request(target, payload))?;
    let start = Instant::now();
    while let Some(left) = limit
        .checked_sub(start.elapsed())
        .filter(|left| !left.is_zero())
    {
        match reply(&socket, target, left)? {
            Some(answered) if answered == payload => return Ok(()),
            Some(_) => {}
            None => break,
        }
    }
    bail!("no echo reply from {target} in {limit:?}")
}

fn open(target: IpAddr) -> Result<Socket> {
    let (domain, protocol) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.connect(&SocketAddr::new(target, 0).into())?;
    Ok(socket)
}

/// Identifier and sequence number of every request here: payloads tell them apart.
const IDENTITY: [u8; 4] = [0x70, 0x69, 0, 1];

fn request(target: IpAddr, payload: &[u8]) -> Vec<u8> {
    let kind = if target.is_ipv4() { 8 } else { 128 };
    let mut message = [&[kind, 0, 0, 0][..], &IDENTITY, payload].concat();
    // The kernel fills in ICMPv6 checksums; those of ICMPv4 are ours.
    if target.is_ipv4() {
        let sum = checksum(&message);
        message.splice(2..4, sum.to_be_bytes());
    }
    message
}

/// The payload of the next echo reply from the target; none if none comes in time.
fn reply(mut socket: &Socket, target: IpAddr, limit: Duration) -> Result<Option<Vec<u8>>> {
    let kind = if target.is_ipv4() { 0 } else { 129 };
    let start = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    while let Some(left) = limit
        .checked_sub(start.elapsed())
        .filter(|left| !left.is_zero())
    {
        socket.set_read_timeout(Some(left))?;
        let Ok(length) = socket.read(&mut buffer) else {
            break;
        };
        // An IPv4 raw socket shows the IP header.
        let header = if target.is_ipv4() {
            usize::from(buffer[0] & 0xf) * 4
        } else {
            0
        };
        let Some([found, 0, _, _, rest @ ..]) = buffer.get(header..length) else {
            continue;
        };
        if *found == kind
            && let Some(payload) = rest.strip_prefix(&IDENTITY)
        {
            return Ok(Some(payload.to_vec()));
        }
    }
    Ok(None)
}

/// The Internet checksum (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}
