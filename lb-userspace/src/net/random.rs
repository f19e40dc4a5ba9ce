//! Randomness from the kernel.

use std::fs::File;
use std::io::{self, Read};

/// A key that nobody can guess.
///
/// # Errors
/// `/dev/urandom` cannot be read.
pub fn key() -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_the_same() {
        assert_ne!(key().unwrap(), key().unwrap());
    }
}
