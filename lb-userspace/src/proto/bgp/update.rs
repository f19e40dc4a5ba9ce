//! UPDATE: packs prefixes into messages, and judges received ones.
//!
//! RFC 4271 §4.3 and §6.3, RFC 4760, RFC 7606.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use bytes::{BufMut, Bytes};
use ipnet::IpNet;

use super::attribute::{self, Collected, OPTIONAL, Path, RawAttribute, Verdict, code};
use super::cursor::Cursor;
use super::error::DecodeError;
use super::message::{self, MessageType};
use super::negotiation::Negotiated;
use super::nlri::{self, Family};

/// Octets for the body of an UPDATE.
const ROOM: usize = message::MAX_LENGTH - message::HEADER_LENGTH;

/// Announces as many of `prefixes`, all of one family, as one message holds, and says how many. None if not
/// even one fits beside the attributes.
pub fn announce<'a>(
    path: &Path,
    four_octet_as: bool,
    prefixes: impl Iterator<Item = &'a IpNet>,
) -> Option<(Bytes, usize)> {
    let mut prefixes = prefixes.peekable();
    let family = Family::of(prefixes.peek()?.addr());
    // RFC 4760 §3, RFC 8950 §3: what the body of RFC 4271 cannot hold goes into MP_REACH_NLRI.
    let plain = family == Family::Ipv4Unicast && path.next_hop.is_ipv4();
    let mut attributes = Vec::new();
    path.encode(plain, four_octet_as, &mut attributes);
    let mut nlri = Vec::new();
    if plain {
        let count = fill(&mut nlri, ROOM.checked_sub(4 + attributes.len())?, prefixes)?;
        return Some((update(&[], &attributes, &nlri), count));
    }
    let mut value = multiprotocol(family);
    put_next_hop(path, &mut value);
    let room = ROOM.checked_sub(4 + 4 + value.len() + attributes.len())?;
    let count = fill(&mut nlri, room, prefixes)?;
    value.append(&mut nlri);
    // RFC 7606 §5.1: MP_REACH_NLRI comes first.
    let mut first = Vec::new();
    attribute::put(&mut first, OPTIONAL, code::MP_REACH_NLRI, &value);
    first.append(&mut attributes);
    Some((update(&[], &first, &[]), count))
}

/// Length, addresses, and the reserved octet behind them.
fn put_next_hop(path: &Path, value: &mut Vec<u8>) {
    match (path.next_hop, path.link_local) {
        (IpAddr::V4(addr), _) => {
            value.put_u8(4);
            value.put_slice(&addr.octets());
        }
        (IpAddr::V6(addr), None) => {
            value.put_u8(16);
            value.put_slice(&addr.octets());
        }
        (IpAddr::V6(addr), Some(link_local)) => {
            value.put_u8(32);
            value.put_slice(&addr.octets());
            value.put_slice(&link_local.octets());
        }
    }
    value.put_u8(0);
}

/// Withdraws as many of `prefixes`, all of one family, as one message holds, and says how many. None if there
/// are no prefixes.
pub fn withdraw<'a>(
    family: Family,
    prefixes: impl Iterator<Item = &'a IpNet>,
) -> Option<(Bytes, usize)> {
    let mut withdrawn = Vec::new();
    match family {
        Family::Ipv4Unicast => {
            let count = fill(&mut withdrawn, ROOM - 4, prefixes)?;
            Some((update(&withdrawn, &[], &[]), count))
        }
        Family::Ipv6Unicast => {
            let mut value = multiprotocol(family);
            let count = fill(&mut withdrawn, ROOM - 4 - 4 - value.len(), prefixes)?;
            value.append(&mut withdrawn);
            let mut attributes = Vec::new();
            attribute::put(&mut attributes, OPTIONAL, code::MP_UNREACH_NLRI, &value);
            Some((update(&[], &attributes, &[]), count))
        }
    }
}

/// End-of-RIB (RFC 4724 §2).
pub fn end_of_rib(family: Family) -> Bytes {
    match family {
        Family::Ipv4Unicast => update(&[], &[], &[]),
        Family::Ipv6Unicast => {
            let mut attributes = Vec::new();
            attribute::put(
                &mut attributes,
                OPTIONAL,
                code::MP_UNREACH_NLRI,
                &multiprotocol(family),
            );
            update(&[], &attributes, &[])
        }
    }
}

fn multiprotocol(family: Family) -> Vec<u8> {
    let (afi, safi) = family.to_wire();
    let [high, low] = afi.to_be_bytes();
    vec![high, low, safi]
}

fn fill<'a>(
    out: &mut Vec<u8>,
    room: usize,
    prefixes: impl Iterator<Item = &'a IpNet>,
) -> Option<usize> {
    let mut count = 0;
    for prefix in prefixes {
        if out.len() + nlri::encoded_length(prefix) > room {
            break;
        }
        nlri::encode(prefix, out);
        count += 1;
    }
    (count > 0).then_some(count)
}

fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(4 + withdrawn.len() + attributes.len() + nlri.len());
    body.put_u16(u16::try_from(withdrawn.len()).unwrap_or(u16::MAX));
    body.put_slice(withdrawn);
    body.put_u16(u16::try_from(attributes.len()).unwrap_or(u16::MAX));
    body.put_slice(attributes);
    body.put_slice(nlri);
    message::encode(MessageType::Update, &body)
}

/// A received UPDATE that does not end the session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Prefixes withdrawn.
    pub withdrawn: Vec<IpNet>,
    /// Prefixes announced, whatever the verdict.
    pub announced: Vec<IpNet>,
    /// Their attributes, where every mandatory one was there and well-formed.
    pub path: Option<Path>,
    /// The family whose initial routes are complete.
    pub end_of_rib: Option<Family>,
    /// How bad it was.
    pub verdict: Verdict,
}

impl Received {
    /// Reads the body of an UPDATE.
    ///
    /// # Errors
    /// What RFC 7606 still ends the session for: lengths that contradict each other, prefixes that cannot be
    /// found, an MP attribute twice, a well-known attribute that nobody knows.
    pub fn decode(body: &[u8], session: &Negotiated) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let withdrawn = field(&mut cursor).ok_or(DecodeError::MalformedAttributeList)?;
        let attributes = field(&mut cursor).ok_or(DecodeError::MalformedAttributeList)?;
        let plain = cursor.rest();

        let mut reader = Reader::new(session);
        let invalid = DecodeError::InvalidNetworkField;
        reader.received.withdrawn =
            nlri::decode(Family::Ipv4Unicast, withdrawn).ok_or(invalid.clone())?;
        reader.received.announced = nlri::decode(Family::Ipv4Unicast, plain).ok_or(invalid)?;
        reader.has_plain_nlri = !plain.is_empty();
        reader.attributes(attributes)?;
        if withdrawn.is_empty() && attributes.is_empty() && plain.is_empty() {
            reader.received.end_of_rib = Some(Family::Ipv4Unicast);
        }
        Ok(reader.finish())
    }
}

fn field<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = cursor.u16()?;
    cursor.take(usize::from(length))
}

struct Reader<'a> {
    session: &'a Negotiated,
    received: Received,
    collected: Collected,
    has_plain_nlri: bool,
    mp_next_hop: Option<(IpAddr, Option<Ipv6Addr>)>,
    seen: BTreeSet<u8>,
}

impl<'a> Reader<'a> {
    fn new(session: &'a Negotiated) -> Self {
        Self {
            session,
            received: Received::default(),
            collected: Collected::default(),
            has_plain_nlri: false,
            mp_next_hop: None,
            seen: BTreeSet::new(),
        }
    }

    fn attributes(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let only = bytes.len();
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            let attribute = match RawAttribute::take(&mut cursor) {
                Ok(attribute) => attribute,
                // RFC 7606 §4: the prefixes of a cut MP attribute cannot be found; all others can.
                Err(Some(code::MP_REACH_NLRI | code::MP_UNREACH_NLRI)) => {
                    return Err(DecodeError::MalformedAttributeList);
                }
                Err(_) => {
                    self.judge(Verdict::TreatAsWithdraw);
                    return Ok(());
                }
            };
            let is_mp = matches!(attribute.code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI);
            if !self.seen.insert(attribute.code) {
                if is_mp {
                    return Err(DecodeError::MalformedAttributeList);
                }
                // RFC 7606 §3(g): all but the first are discarded.
                self.judge(Verdict::DiscardAttribute);
                continue;
            }
            if is_mp {
                let is_only = attribute.whole.len() == only;
                self.multiprotocol(attribute, is_only)?;
            } else {
                let four_octet_as = self.session.four_octet_as;
                let verdict =
                    self.collected
                        .judge(attribute, four_octet_as, self.session.internal)?;
                self.judge(verdict);
            }
        }
        Ok(())
    }

    fn multiprotocol(
        &mut self,
        attribute: RawAttribute<'_>,
        is_only: bool,
    ) -> Result<(), DecodeError> {
        let error = || DecodeError::OptionalAttributeError(attribute.whole.to_vec());
        if attribute.flags & (OPTIONAL | attribute::TRANSITIVE) != OPTIONAL {
            self.judge(Verdict::TreatAsWithdraw);
        }
        let mut cursor = Cursor::new(attribute.value);
        let afi = cursor.u16().ok_or_else(error)?;
        let safi = cursor.u8().ok_or_else(error)?;
        // A family that was not negotiated is none of our business.
        let offered = |family: &Family| self.session.families.contains(family);
        let Some(family) = Family::from_wire(afi, safi).filter(offered) else {
            return Ok(());
        };
        if attribute.code == code::MP_UNREACH_NLRI {
            let mut prefixes = nlri::decode(family, cursor.rest()).ok_or_else(error)?;
            if prefixes.is_empty()
                && is_only
                && !self.has_plain_nlri
                && self.received.withdrawn.is_empty()
            {
                self.received.end_of_rib = Some(family);
            }
            self.received.withdrawn.append(&mut prefixes);
            return Ok(());
        }
        let length = usize::from(cursor.u8().ok_or_else(error)?);
        let next_hop = cursor.take(length).ok_or_else(error)?;
        let _reserved = cursor.u8().ok_or_else(error)?;
        let extended = self.session.extended_next_hop;
        // RFC 7606 §7.11: another length leaves nothing that could be relied on.
        let next_hop = attribute::mp_next_hop(family, extended, next_hop).ok_or_else(error)?;
        let mut prefixes = nlri::decode(family, cursor.rest()).ok_or_else(error)?;
        self.received.announced.append(&mut prefixes);
        self.mp_next_hop = Some(next_hop);
        Ok(())
    }

    fn judge(&mut self, verdict: Verdict) {
        self.received.verdict = self.received.verdict.max(verdict);
    }

    // RFC 7606 §3(d): a mandatory attribute that is missing makes the routes withdrawn.
    fn finish(mut self) -> Received {
        if !self.received.announced.is_empty() {
            let missing_next_hop = self.has_plain_nlri && self.collected.next_hop.is_none();
            let missing_local_pref = self.session.internal && self.collected.local_pref.is_none();
            self.received.path = self.path();
            if missing_next_hop || missing_local_pref || self.received.path.is_none() {
                self.judge(Verdict::TreatAsWithdraw);
            }
        }
        if self.received.verdict == Verdict::TreatAsWithdraw {
            self.received.path = None;
        }
        self.received
    }

    fn path(&self) -> Option<Path> {
        let plain = self.collected.next_hop.map(|addr| (addr.into(), None));
        let (next_hop, link_local) = self.mp_next_hop.or(plain)?;
        Some(Path {
            origin: self.collected.origin?,
            as_path: self.collected.as_path.clone()?,
            next_hop,
            link_local,
            med: self.collected.med,
            local_pref: self.collected.local_pref,
            communities: self.collected.communities.clone(),
            extended_communities: self.collected.extended_communities.clone(),
            large_communities: self.collected.large_communities.clone(),
            only_to_customer: self.collected.only_to_customer,
        })
    }
}

#[cfg(test)]
mod tests;
