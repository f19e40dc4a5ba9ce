//! Path attributes: what we send, and how a received one is judged.
//!
//! RFC 4271 §4.3 and §5, RFC 7606 §7.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BufMut;

use super::cursor::Cursor;
use super::error::DecodeError;
use super::nlri::Family;
use super::open::Open;

/// Attribute type codes that this speaker sends or looks into.
pub(super) mod code {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MULTI_EXIT_DISC: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH_NLRI: u8 = 14;
    pub(crate) const MP_UNREACH_NLRI: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
    pub(crate) const ONLY_TO_CUSTOMER: u8 = 35;
}

pub(super) const OPTIONAL: u8 = 0x80;
pub(super) const TRANSITIVE: u8 = 0x40;
const EXTENDED_LENGTH: u8 = 0x10;

const AS_SEQUENCE: u8 = 2;

/// ORIGIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Origin {
    /// Interior to the originating AS.
    Igp = 0,
    /// Learned by EGP.
    Egp = 1,
    /// Anything else.
    Incomplete = 2,
}

/// The attributes that routes of one UPDATE share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH as one sequence, nearest AS first; empty for what an internal peer originates.
    pub as_path: Vec<u32>,
    /// NEXT_HOP, or the global address of MP_REACH_NLRI.
    pub next_hop: IpAddr,
    /// The link-local address behind a global one in MP_REACH_NLRI (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF, on internal sessions.
    pub local_pref: Option<u32>,
    /// COMMUNITIES (RFC 1997).
    pub communities: BTreeSet<u32>,
    /// EXTENDED_COMMUNITIES (RFC 4360), as they stand on the wire.
    pub extended_communities: BTreeSet<[u8; 8]>,
    /// LARGE_COMMUNITIES (RFC 8092).
    pub large_communities: BTreeSet<(u32, u32, u32)>,
    /// Only to Customer (RFC 9234).
    pub only_to_customer: Option<u32>,
}

/// The link bandwidth extended community (RFC 10005), transitive; in bytes a second.
pub fn link_bandwidth(asn: u32, bytes_per_second: u64) -> [u8; 8] {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the community holds a float; seven digits are more than a share needs"
    )]
    let [a, b, c, d] = (bytes_per_second as f32).to_be_bytes();
    let [high, low] = Open::narrow_asn(asn).to_be_bytes();
    [0x00, 0x04, high, low, a, b, c, d]
}

impl Path {
    /// Writes every attribute but MP_REACH_NLRI, by ascending type, and NEXT_HOP only with `plain` prefixes,
    /// which stand outside of it. Towards a peer without 4-octet AS numbers
    /// the path is narrowed and AS4_PATH carries the truth (RFC 6793 §4.2.2).
    pub(super) fn encode(&self, plain: bool, four_octet_as: bool, out: &mut Vec<u8>) {
        put(out, TRANSITIVE, code::ORIGIN, &[self.origin as u8]);
        put(
            out,
            TRANSITIVE,
            code::AS_PATH,
            &as_path(&self.as_path, four_octet_as),
        );
        if let IpAddr::V4(next_hop) = self.next_hop
            && plain
        {
            put(out, TRANSITIVE, code::NEXT_HOP, &next_hop.octets());
        }
        if let Some(med) = self.med {
            put(out, OPTIONAL, code::MULTI_EXIT_DISC, &med.to_be_bytes());
        }
        if let Some(local_pref) = self.local_pref {
            put(out, TRANSITIVE, code::LOCAL_PREF, &local_pref.to_be_bytes());
        }
        if !self.communities.is_empty() {
            let value: Vec<u8> = self
                .communities
                .iter()
                .flat_map(|c| c.to_be_bytes())
                .collect();
            put(out, OPTIONAL | TRANSITIVE, code::COMMUNITIES, &value);
        }
        if !self.extended_communities.is_empty() {
            let value: Vec<u8> = self
                .extended_communities
                .iter()
                .flatten()
                .copied()
                .collect();
            let flags = OPTIONAL | TRANSITIVE;
            put(out, flags, code::EXTENDED_COMMUNITIES, &value);
        }
        if !four_octet_as && self.as_path.iter().any(|&asn| asn > u32::from(u16::MAX)) {
            put(
                out,
                OPTIONAL | TRANSITIVE,
                code::AS4_PATH,
                &as_path(&self.as_path, true),
            );
        }
        if !self.large_communities.is_empty() {
            let words = self
                .large_communities
                .iter()
                .flat_map(|&(a, b, c)| [a, b, c]);
            let value: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
            put(out, OPTIONAL | TRANSITIVE, code::LARGE_COMMUNITIES, &value);
        }
        if let Some(asn) = self.only_to_customer {
            let flags = OPTIONAL | TRANSITIVE;
            put(out, flags, code::ONLY_TO_CUSTOMER, &asn.to_be_bytes());
        }
    }
}

/// Writes one attribute, with the 2-octet length only where it is needed.
pub(super) fn put(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => out.put_slice(&[flags, code, length]),
        Err(_) => {
            out.put_slice(&[flags | EXTENDED_LENGTH, code]);
            out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        }
    }
    out.put_slice(value);
}

fn as_path(path: &[u32], four_octet_as: bool) -> Vec<u8> {
    let mut value = Vec::new();
    for segment in path.chunks(255) {
        value.put_slice(&[AS_SEQUENCE, u8::try_from(segment.len()).unwrap_or(u8::MAX)]);
        for &asn in segment {
            if four_octet_as {
                value.put_u32(asn);
            } else {
                value.put_u16(Open::narrow_asn(asn));
            }
        }
    }
    value
}

/// How bad a received UPDATE is, short of ending the session (RFC 7606 §2). The worst wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Verdict {
    /// As it should be.
    #[default]
    Accept,
    /// An attribute was wrong and counts as absent.
    DiscardAttribute,
    /// The routes count as withdrawn.
    TreatAsWithdraw,
}

/// One attribute off the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawAttribute<'a> {
    pub(super) flags: u8,
    pub(super) code: u8,
    pub(super) value: &'a [u8],
    /// Flags, type, length and value, for NOTIFICATION data.
    pub(super) whole: &'a [u8],
}

impl<'a> RawAttribute<'a> {
    /// Takes the next attribute; none if what is left is no whole one. The type is told where it was there.
    pub(super) fn take(cursor: &mut Cursor<'a>) -> Result<Self, Option<u8>> {
        let start = cursor.rest();
        let flags = cursor.u8().ok_or(None)?;
        let code = cursor.u8().ok_or(None)?;
        let length = if flags & EXTENDED_LENGTH == 0 {
            cursor.u8().map(u16::from)
        } else {
            cursor.u16()
        };
        let value = length
            .and_then(|length| cursor.take(usize::from(length)))
            .ok_or(Some(code))?;
        let whole = start
            .get(..start.len() - cursor.rest().len())
            .unwrap_or_default();
        Ok(Self {
            flags,
            code,
            value,
            whole,
        })
    }
}

/// What the attributes of a received UPDATE say, those that were well-formed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Collected {
    pub(super) origin: Option<Origin>,
    pub(super) as_path: Option<Vec<u32>>,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) communities: BTreeSet<u32>,
    pub(super) extended_communities: BTreeSet<[u8; 8]>,
    pub(super) large_communities: BTreeSet<(u32, u32, u32)>,
    pub(super) only_to_customer: Option<u32>,
}

impl Collected {
    /// Judges one attribute other than the MP ones, and keeps what it says.
    ///
    /// # Errors
    /// A well-known attribute that nobody knows ends the session (RFC 4271 §6.3).
    pub(super) fn judge(
        &mut self,
        attribute: RawAttribute<'_>,
        four_octet_as: bool,
        internal: bool,
    ) -> Result<Verdict, DecodeError> {
        let value = attribute.value;
        let Some(flags) = expected_flags(attribute.code) else {
            if attribute.flags & OPTIONAL == 0 {
                return Err(DecodeError::UnrecognizedWellKnownAttribute(
                    attribute.whole.to_vec(),
                ));
            }
            // Unknown optional attributes are never looked into.
            return Ok(Verdict::Accept);
        };
        // RFC 7606 §3(c); the low four bits are ignored.
        if attribute.flags & (OPTIONAL | TRANSITIVE) != flags {
            return Ok(Verdict::TreatAsWithdraw);
        }
        let well_formed = match attribute.code {
            code::ORIGIN => keep(&mut self.origin, origin(value)),
            code::AS_PATH => keep(&mut self.as_path, read_as_path(value, four_octet_as)),
            code::NEXT_HOP => keep(&mut self.next_hop, next_hop(value)),
            code::MULTI_EXIT_DISC => keep(&mut self.med, word(value)),
            code::COMMUNITIES => {
                self.communities = value.chunks_exact(4).filter_map(word).collect();
                is_list_of(value, 4)
            }
            code::LARGE_COMMUNITIES => {
                self.large_communities = value.chunks_exact(12).filter_map(triple).collect();
                is_list_of(value, 12)
            }
            code::EXTENDED_COMMUNITIES => {
                let whole = value.chunks_exact(8);
                self.extended_communities = whole.filter_map(|c| c.try_into().ok()).collect();
                is_list_of(value, 8)
            }
            // RFC 9234 §5.
            code::ONLY_TO_CUSTOMER => keep(&mut self.only_to_customer, word(value)),
            code::IPV6_EXTENDED_COMMUNITIES => is_list_of(value, 20),
            // RFC 7606 §7.5, §7.9, §7.10: meaningless from an external peer.
            code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST if !internal => {
                return Ok(Verdict::DiscardAttribute);
            }
            code::LOCAL_PREF => keep(&mut self.local_pref, word(value)),
            code::ORIGINATOR_ID => value.len() == 4,
            code::CLUSTER_LIST => is_list_of(value, 4),
            code::ATOMIC_AGGREGATE => return Ok(discard_unless(value.is_empty())),
            code::AGGREGATOR => {
                return Ok(discard_unless(
                    value.len() == if four_octet_as { 8 } else { 6 },
                ));
            }
            // RFC 6793 §6: a NEW speaker has no business sending AS4_*; routes are refused either way.
            code::AS4_PATH | code::AS4_AGGREGATOR => return Ok(discard_unless(!four_octet_as)),
            _ => true,
        };
        Ok(if well_formed {
            Verdict::Accept
        } else {
            Verdict::TreatAsWithdraw
        })
    }
}

/// Optional and Transitive as each known attribute must carry them; none for an unknown one.
pub(super) const fn expected_flags(code: u8) -> Option<u8> {
    match code {
        code::ORIGIN
        | code::AS_PATH
        | code::NEXT_HOP
        | code::LOCAL_PREF
        | code::ATOMIC_AGGREGATE => Some(TRANSITIVE),
        code::MULTI_EXIT_DISC
        | code::ORIGINATOR_ID
        | code::CLUSTER_LIST
        | code::MP_REACH_NLRI
        | code::MP_UNREACH_NLRI => Some(OPTIONAL),
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::IPV6_EXTENDED_COMMUNITIES
        | code::LARGE_COMMUNITIES
        | code::ONLY_TO_CUSTOMER => Some(OPTIONAL | TRANSITIVE),
        _ => None,
    }
}

fn keep<T>(slot: &mut Option<T>, read: Option<T>) -> bool {
    *slot = read;
    slot.is_some()
}

const fn discard_unless(well_formed: bool) -> Verdict {
    if well_formed {
        Verdict::Accept
    } else {
        Verdict::DiscardAttribute
    }
}

const fn is_list_of(value: &[u8], size: usize) -> bool {
    !value.is_empty() && value.len().is_multiple_of(size)
}

fn word(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn triple(value: &[u8]) -> Option<(u32, u32, u32)> {
    let mut cursor = Cursor::new(value);
    Some((cursor.u32()?, cursor.u32()?, cursor.u32()?))
}

const fn origin(value: &[u8]) -> Option<Origin> {
    match value {
        [0] => Some(Origin::Igp),
        [1] => Some(Origin::Egp),
        [2] => Some(Origin::Incomplete),
        _ => None,
    }
}

// RFC 4271 §6.3: syntactically an address, semantically a host that could be one hop away.
fn next_hop(value: &[u8]) -> Option<Ipv4Addr> {
    let addr = Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?);
    let [first, ..] = addr.octets();
    (first != 0 && first < 224 && !addr.is_loopback()).then_some(addr)
}

// RFC 7606 §7.2, and RFC 9774: sets and confederation segments are errors. RFC 7607: so is AS 0.
fn read_as_path(value: &[u8], four_octet_as: bool) -> Option<Vec<u32>> {
    let mut cursor = Cursor::new(value);
    let mut path = Vec::new();
    while let Some(kind) = cursor.u8() {
        let count = cursor.u8()?;
        if kind != AS_SEQUENCE || count == 0 {
            return None;
        }
        for _ in 0..count {
            let asn = if four_octet_as {
                cursor.u32()?
            } else {
                u32::from(cursor.u16()?)
            };
            if asn == 0 {
                return None;
            }
            path.push(asn);
        }
    }
    Some(path)
}

/// The next hop in MP_REACH_NLRI: the address, and for IPv6 a link-local one behind it (RFC 2545 §3). IPv4
/// prefixes may have either kind where `extended` (RFC 8950 §3). None for any other length.
pub(super) fn mp_next_hop(
    family: Family,
    extended: bool,
    value: &[u8],
) -> Option<(IpAddr, Option<Ipv6Addr>)> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return (family == Family::Ipv4Unicast).then(|| (Ipv4Addr::from(octets).into(), None));
    }
    if family == Family::Ipv4Unicast && !extended {
        return None;
    }
    let mut cursor = Cursor::new(value);
    let global = Ipv6Addr::from(cursor.array::<16>()?);
    let link_local = match cursor.rest() {
        [] => None,
        rest => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?)),
    };
    Some((global.into(), link_local))
}
