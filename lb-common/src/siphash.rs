//! SipHash-2-4 (Aumasson and Bernstein, 2012): the tag on messages between
//! nodes.

/// Key of the tag.
pub type Key = [u64; 2];

struct State([u64; 4]);

impl State {
    #[inline(always)]
    const fn new(key: Key) -> Self {
        Self([
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.round();
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
}

/// The SipHash-2-4 tag of `words`, each taken as eight little-endian bytes.
#[inline(always)]
pub fn tag<const N: usize>(key: Key, words: [u64; N]) -> u64 {
    let mut state = State::new(key);
    for word in words {
        state.absorb(word);
    }
    state.absorb((N as u64 * 8) << 56);
    state.finish()
}

/// The SipHash-2-4 tag of `octets`.
pub fn tag_octets(key: Key, octets: &[u8]) -> u64 {
    let mut state = State::new(key);
    let (words, rest) = octets.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, octet) in last.iter_mut().zip(rest) {
        *to = *octet;
    }
    state.absorb((octets.len() as u64) << 56 | u64::from_le_bytes(last));
    state.finish()
}

/// The key that 32 octets of a Secret make: the halves folded, so that every octet counts.
pub fn key_from_secret(secret: &[u8; 32]) -> Key {
    let mut words = [0u64; 4];
    for (word, octets) in words.iter_mut().zip(secret.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*octets);
    }
    let [a, b, c, d] = words;
    [a ^ c.rotate_left(1), b ^ d.rotate_left(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference implementation: key 00..0f, message 00..(n-1).
    #[test]
    fn agrees_with_the_reference_vectors() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(tag(key, []), 0x726f_db47_dd0e_0e31);
        assert_eq!(tag(key, [0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
        assert_eq!(
            tag(key, [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]),
            0x3f2a_cc7f_57c2_9bdb
        );
    }

    #[test]
    fn octets_agree_with_the_reference_vectors() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let message: [u8; 16] = core::array::from_fn(|at| at as u8);
        for (length, expected) in [
            (0, 0x726f_db47_dd0e_0e31),
            (1, 0x74f8_39c5_93dc_67fd),
            (8, 0x93f5_f579_9a93_2462),
            (15, 0xa129_ca61_49be_45e5),
            (16, 0x3f2a_cc7f_57c2_9bdb),
        ] {
            assert_eq!(tag_octets(key, &message[..length]), expected, "{length}");
        }
    }

    #[test]
    fn every_octet_of_the_secret_counts() {
        let base = key_from_secret(&[7; 32]);
        for at in 0..32 {
            let mut secret = [7; 32];
            secret[at] ^= 1;
            assert_ne!(key_from_secret(&secret), base, "octet {at}");
        }
    }
}
