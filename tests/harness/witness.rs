//! Who answers ARP and NDP for an address, seen by tcpdump at the switch's
//! ports.
//!
//! Answers and announcements of every node are read from what its port hears: two nodes that answer for one
//! address cannot hide from each other there.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::asker::Asker;
use crate::process::Process;
use crate::topology::{HOST, Topology};
use crate::wait;

/// An address of the segment that no host has.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

/// Watches until [`Witness::end`].
#[derive(Debug)]
pub struct Witness {
    tcpdump: Process,
    log: PathBuf,
    nodes: BTreeSet<String>,
}

/// One frame in which a node says that an address is its.
#[derive(Clone, PartialEq, Debug)]
pub struct Word {
    /// Seconds since 1970.
    pub at: f64,
    /// Name of the node.
    pub node: String,
    /// The address.
    pub address: IpAddr,
    /// It was not asked.
    pub is_unasked: bool,
}

impl Witness {
    /// Begins to watch.
    ///
    /// # Errors
    /// When tcpdump cannot be started.
    pub fn watch(topology: &Topology, name: &str) -> Result<Self> {
        let log = topology.dir().join(format!("{name}.tcpdump"));
        let filter = "arp or (icmp6 and ip6[40] == 136)";
        let mut command = Command::new("tcpdump");
        command.args(["-i", "any", "-Q", "in", "-e", "-n", "-tt", "-B", "8192"]);
        // Otherwise it sees frames only when a block of them is full, or a second old; and then each takes the room of
        // the longest.
        command.args(["-l", "--immediate-mode", "-s", "256"]);
        let tcpdump = Process::start(&topology.tor, command.arg(filter), &log)?;
        let witness = Self {
            tcpdump,
            log,
            nodes: topology
                .nodes
                .iter()
                .map(|node| node.name.clone())
                .collect(),
        };
        wait::until("tcpdump to listen", Duration::from_secs(5), || {
            let text = fs::read_to_string(&witness.log)?;
            ensure!(text.contains("listening on"), "it says {text:?}");
            Ok(())
        })?;
        Ok(witness)
    }

    /// What was said so far, in order of time.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn words(&self) -> Result<Vec<Word>> {
        let text = fs::read_to_string(&self.log)?;
        Ok(text
            .lines()
            .filter_map(parse)
            .filter(|word| self.nodes.contains(&word.node))
            .collect())
    }

    /// Ends; what was said in all until now. When tcpdump is ended it leaves unread what it has not come to: the host
    /// asks for an address that nobody has until that is seen.
    ///
    /// # Errors
    /// When tcpdump falls behind or does not end, or lost frames.
    pub fn end(mut self, topology: &Topology) -> Result<Vec<Word>> {
        let _asker = Asker::start(&topology.host, HOST, &[NOBODY], Duration::from_millis(20))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        wait::until("tcpdump to catch up", Duration::from_secs(10), || {
            let text = fs::read_to_string(&self.log)?;
            let last = text.lines().rev().find_map(time).unwrap_or_default();
            ensure!(last > now, "it is {} s behind", now - last);
            Ok(())
        })?;
        self.tcpdump.end(Signal::SIGINT, Duration::from_secs(5))?;
        let text = fs::read_to_string(&self.log)?;
        let dropped = text.lines().find(|line| line.contains("dropped by kernel"));
        let dropped = dropped.context("tcpdump said nothing at its end")?;
        ensure!(dropped.starts_with("0 "), "{dropped}");
        self.words()
    }
}

/// Who spoke for an address, in turn: each node once for every time it took over.
pub fn turns(words: &[Word], address: IpAddr) -> Vec<&str> {
    let mut turns: Vec<_> = words
        .iter()
        .filter(|word| word.address == address)
        .map(|word| word.node.as_str())
        .collect();
    turns.dedup();
    turns
}

/// The longest time in which nobody spoke for an address, between two words for it.
pub fn longest_silence(words: &[Word], address: IpAddr) -> Option<Duration> {
    let of_address = words.iter().filter(|word| word.address == address);
    let times: Vec<_> = of_address.map(|word| word.at).collect();
    let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = pauses.fold(None, |longest: Option<f64>, pause| {
        Some(longest.map_or(pause, |longest| longest.max(pause)))
    });
    longest.map(|pause| Duration::from_secs_f64(pause.max(0.0)))
}

/// When a frame was seen, in seconds since 1970.
fn time(line: &str) -> Option<f64> {
    line.split_whitespace().next()?.parse().ok()
}

/// `TIME PORT In … ethertype ARP …: Reply ADDRESS is-at MAC` and its like.
fn parse(line: &str) -> Option<Word> {
    let at = time(line)?;
    let mut words = line.split_whitespace().skip(1);
    let node = words.next()?.to_owned();
    let is_broadcast = words.next()? == "B";
    let after = |mark: &str| {
        let (_, rest) = line.split_once(mark)?;
        let text = rest.split([' ', ',']).next()?;
        text.parse::<IpAddr>().ok()
    };
    let (address, is_unasked) = if let Some(address) = after(": Reply ") {
        (address, is_broadcast)
    } else if let Some(address) = after(" tgt is ") {
        (address, line.contains("> ff02::1:"))
    } else {
        // A request for one's own address is an announcement.
        let address = after(" tell ")?;
        let asked = after(" who-has ")?;
        (asked == address).then_some((address, true))?
    };
    Some(Word {
        at,
        node,
        address,
        is_unasked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_announcements_are_read_and_questions_are_not() {
        let lines = "tcpdump: listening on any, link-type LINUX_SLL2
1.5 node-a In  ifindex 4 02:00:00:00:00:0a ethertype ARP (0x0806), length 48: Reply 192.0.2.200 is-at 02:00:00:00:00:0a, length 28
2.5 node-a B   ifindex 4 02:00:00:00:00:0a ethertype ARP (0x0806), length 48: Request who-has 192.0.2.1 tell 192.0.2.11, length 28
3.5 node-b B   ifindex 5 02:00:00:00:00:0b ethertype ARP (0x0806), length 48: Request who-has 192.0.2.200 tell 192.0.2.200, length 28
4.5 node-b M   ifindex 5 02:00:00:00:00:0b ethertype IPv6 (0x86dd), length 92: 2001:db8:2::200 > ff02::1: ICMP6, neighbor advertisement, tgt is 2001:db8:2::200, length 32";
        let words: Vec<_> = lines.lines().filter_map(parse).collect();
        let seen: Vec<_> = words
            .iter()
            .map(|w| (w.at, w.node.as_str(), w.is_unasked))
            .collect();
        assert_eq!(
            seen,
            [
                (1.5, "node-a", false),
                (3.5, "node-b", true),
                (4.5, "node-b", true)
            ]
        );
        let v4 = "192.0.2.200".parse().unwrap();
        assert_eq!(longest_silence(&words, v4), Some(Duration::from_secs(2)));
        assert_eq!(turns(&words, v4), ["node-a", "node-b"]);
        assert_eq!(words[2].address.to_string(), "2001:db8:2::200");
    }
}
