//! Membership in IPv6 multicast groups on one interface.
//!
//! A socket that has joined a group lets the NIC's filter pass its frames, and makes the kernel report the
//! membership (MLD, RFC 3810), which is what switches that snoop forward by. The kernel reports again by itself
//! when a link comes back; on an interface that was made anew everything is joined anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;

use socket2::{Domain, Protocol, Socket, Type};

/// Groups that one socket joins: the kernel's memory for a socket's options (`optmem_max`, 20 KiB before Linux
/// 6.7) holds some four hundred.
const GROUPS_PER_SOCKET: usize = 256;

/// The groups that were joined.
#[derive(Debug, Default)]
pub struct Groups {
    interface: u32,
    sockets: Vec<Member>,
    /// By group: the socket that is its member.
    joined: BTreeMap<Ipv6Addr, usize>,
}

#[derive(Debug)]
struct Member {
    socket: Socket,
    groups: usize,
}

impl Groups {
    /// Joins these groups on the interface of that index and leaves all others. What fails is tried again by the
    /// next call.
    ///
    /// # Errors
    /// Of a group that could not be joined; the others were.
    pub fn follow(&mut self, interface: u32, wanted: &BTreeSet<Ipv6Addr>) -> io::Result<()> {
        if self.interface != interface {
            *self = Self {
                interface,
                ..Self::default()
            };
        }
        let unwanted = self
            .joined
            .extract_if(.., |group, _| !wanted.contains(group));
        for (group, index) in unwanted {
            if let Some(member) = self.sockets.get_mut(index) {
                member.groups -= 1;
                // It is gone already where the interface is.
                let _ = member.socket.leave_multicast_v6(&group, interface);
            }
        }
        let mut outcome = Ok(());
        for group in wanted {
            if !self.joined.contains_key(group)
                && let Err(error) = self.join(*group)
            {
                outcome = Err(error);
            }
        }
        outcome
    }

    fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        let mut sockets = self.sockets.iter();
        let index = match sockets.position(|member| member.groups < GROUPS_PER_SOCKET) {
            Some(index) => index,
            None => {
                let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
                self.sockets.push(Member { socket, groups: 0 });
                self.sockets.len() - 1
            }
        };
        if let Some(member) = self.sockets.get_mut(index) {
            member.socket.join_multicast_v6(&group, self.interface)?;
            member.groups += 1;
            self.joined.insert(group, index);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users of a group on an interface, as the kernel has it.
    fn users(interface: &str, group: Ipv6Addr) -> u32 {
        let hex: String = group
            .octets()
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        let text = std::fs::read_to_string("/proc/net/igmp6").unwrap();
        let mut lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|words| words[1] == interface && words[2] == hex);
        line.map_or(0, |words| words[3].parse().unwrap())
    }

    #[test]
    fn more_groups_than_one_socket_holds_are_joined_and_left() {
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        let group = |n: u16| Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff7a, n);
        let all: BTreeSet<_> = (0..600).map(group).collect();
        let mut groups = Groups::default();
        groups.follow(lo, &all).unwrap();
        assert_eq!(groups.sockets.len(), 3);
        assert!(all.iter().all(|group| users("lo", *group) == 1));
        let few: BTreeSet<_> = (500..601).map(group).collect();
        groups.follow(lo, &few).unwrap();
        assert_eq!([users("lo", group(0)), users("lo", group(600))], [0, 1]);
        drop(groups);
        assert_eq!(users("lo", group(600)), 0);
    }

    #[test]
    fn what_is_no_group_is_refused_and_the_others_are_joined() {
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff7b, 1);
        let wanted = [Ipv6Addr::LOCALHOST, group].into();
        let mut groups = Groups::default();
        assert!(groups.follow(lo, &wanted).is_err());
        assert_eq!(users("lo", group), 1);
    }
}
