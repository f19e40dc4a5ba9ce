//! Integers in network byte order, and MAC addresses.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A 16-bit integer kept as it lies on the wire (network byte order).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From a host-order value.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// From the integer that two wire bytes make when loaded natively.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// The integer whose native bytes are the wire bytes.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The host-order value.
    #[inline(always)]
    pub const fn host(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// A 32-bit integer kept as it lies on the wire (network byte order).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Be32(u32);

impl Be32 {
    /// From a host-order value.
    #[inline(always)]
    pub const fn new(host: u32) -> Self {
        Self(host.to_be())
    }

    /// From the integer that four wire bytes make when loaded natively.
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The integer whose native bytes are the wire bytes.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The host-order value.
    #[inline(always)]
    pub const fn host(self) -> u32 {
        u32::from_be(self.0)
    }

    /// Two after one another on the wire.
    #[inline(always)]
    pub const fn join(first: Be16, second: Be16) -> Self {
        let [a, b] = first.raw().to_ne_bytes();
        let [c, d] = second.raw().to_ne_bytes();
        Self::from_raw(u32::from_ne_bytes([a, b, c, d]))
    }

    /// The first two octets.
    #[inline(always)]
    pub const fn leading(self) -> Be16 {
        Be16::new((self.host() >> 16) as u16)
    }
}

/// An IPv6 address, or an IPv4 address in the first word with three zero words; network byte order.
pub type AddrWords = [Be32; 4];

/// Whether the address is zero, which says that there is none.
#[inline(always)]
pub const fn is_none(words: &AddrWords) -> bool {
    let [a, b, c, d] = words;
    a.raw() | b.raw() | c.raw() | d.raw() == 0
}

/// The words of an IPv4 address, as map values hold it.
pub fn words4(addr: core::net::Ipv4Addr) -> AddrWords {
    [
        Be32::new(addr.to_bits()),
        Be32::default(),
        Be32::default(),
        Be32::default(),
    ]
}

/// The words of an IPv6 address, as map keys and values hold it.
pub fn words6(addr: core::net::Ipv6Addr) -> AddrWords {
    let bits = addr.to_bits();
    [
        Be32::new((bits >> 96) as u32),
        Be32::new((bits >> 64) as u32),
        Be32::new((bits >> 32) as u32),
        Be32::new(bits as u32),
    ]
}

/// An Ethernet address.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address: want six hexadecimal octets separated by ':'")
    }
}

impl core::error::Error for ParseMacError {}

impl core::str::FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or(ParseMacError)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_not_hexadecimal| ParseMacError)?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(ParseMacError),
        }
    }
}
