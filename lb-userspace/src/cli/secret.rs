//! `torline secret`: a Secret with fresh keys for a cluster.

use anyhow::Context;

use super::print;
use crate::net::random;

/// Prints the Secret.
pub(super) fn show(namespace: &str) -> anyhow::Result<()> {
    print(&manifest(namespace, &fresh_key()?, &fresh_key()?))
}

fn fresh_key() -> anyhow::Result<[u8; 32]> {
    random::key().context("failed to make a key")
}

fn manifest(namespace: &str, flow_key: &[u8], peer_key: &[u8]) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata:
  name: torline
  namespace: {namespace}
type: Opaque
data:
  flow-key: {}
  peer-key: {}
",
        base64(flow_key),
        base64(peer_key)
    )
}

/// RFC 4648 §4.
fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let mut bits = 0u32;
        for index in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(index).copied().unwrap_or(0));
        }
        for index in 0..4 {
            let sextet = bits >> (18 - 6 * index) & 63;
            let letter = ALPHABET.get(sextet as usize).copied().unwrap_or(b'=');
            text.push(char::from(if index > chunk.len() { b'=' } else { letter }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_come_out() {
        for (octets, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(octets.as_bytes()), text);
        }
    }
}
