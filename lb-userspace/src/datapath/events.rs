//! What the programs tell the agent: the ring buffer that they fill.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use lb_common::abi::map;
use lb_common::addr::{AddrWords, is_none};
use lb_common::maps::{Event, event_flags, event_kind};
use zerocopy::FromBytes;

use super::flows::{FlowName, address, flow_name};
use super::handle::{HandleError, take};

/// What a program says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// This node has the flow to which a list led.
    Chain {
        /// The flow.
        flow: FlowName,
        /// Index of its backend in `BACKENDS`.
        backend: u32,
        /// Address of the node that wrote the list.
        origin: IpAddr,
    },
    /// Nobody on a list has the flow.
    Unknown {
        /// The flow.
        flow: FlowName,
        /// Address of the node that wrote the list; `None` is this node.
        origin: Option<IpAddr>,
    },
}

impl Told {
    fn of(event: &Event) -> Option<Self> {
        let is_v6 = |flag: u8| event.flags & flag != 0;
        let end = |words: &AddrWords| address(words, is_v6(event_flags::IPV6));
        let flow = flow_name(
            event.protocol,
            (end(&event.source), event.source_port),
            (end(&event.destination), event.destination_port),
        )?;
        let origin = (!is_none(&event.origin))
            .then(|| address(&event.origin, is_v6(event_flags::ORIGIN_IPV6)));
        match event.kind {
            event_kind::CHAIN_HIT => Some(Self::Chain {
                flow,
                backend: event.backend,
                origin: origin?,
            }),
            event_kind::LOCATE => Some(Self::Unknown { flow, origin }),
            _ => None,
        }
    }
}

/// What nobody has read yet. The descriptor is readable when there is something.
pub struct Events(RingBuf<MapData>);

impl Events {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, HandleError> {
        take(object, map::EVENTS).map(Self)
    }

    /// The oldest event. What says nothing is skipped.
    pub fn next_told(&mut self) -> Option<Told> {
        loop {
            let item = self.0.next()?;
            if let Ok((event, _)) = Event::read_from_prefix(&item)
                && let Some(told) = Told::of(&event)
            {
                return Some(told);
            }
        }
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use lb_common::addr::{Be16, words4, words6};

    use super::*;

    #[test]
    fn an_event_names_the_flow_and_who_wrote_the_list() {
        let origin: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let event = Event {
            source: words4([198, 51, 100, 7].into()),
            destination: words4([203, 0, 113, 10].into()),
            origin: words6(origin),
            source_port: Be16::new(41_000),
            destination_port: Be16::new(443),
            protocol: 6,
            kind: event_kind::CHAIN_HIT,
            flags: event_flags::ORIGIN_IPV6,
            backend: 7,
            ..Event::default()
        };
        let Some(Told::Chain {
            flow,
            backend,
            origin: from,
        }) = Told::of(&event)
        else {
            panic!("a list led here");
        };
        assert_eq!((backend, from), (7, IpAddr::V6(origin)));
        assert_eq!(flow.client, "198.51.100.7:41000".parse().unwrap());
        assert_eq!(flow.frontend.to_string(), "203.0.113.10:443/tcp");
        let own = Event {
            kind: event_kind::LOCATE,
            origin: AddrWords::default(),
            ..event
        };
        assert_eq!(Told::of(&own), Some(Told::Unknown { flow, origin: None }));
        assert_eq!(Told::of(&Event { kind: 9, ..event }), None);
        assert_eq!(
            Told::of(&Event {
                protocol: 1,
                ..event
            }),
            None
        );
    }
}
