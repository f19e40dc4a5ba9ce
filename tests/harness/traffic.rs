//! Traffic that can tell where it went: servers in pods that say who they are,
//! clients that count.

pub mod client;
pub mod echo;
pub mod ping;

use std::net::IpAddr;

use anyhow::{Context, Result};

/// What a pod says first on a connection, and before the payload of every datagram it returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Greeting {
    /// The pod's name.
    pub pod: String,
    /// The client's address, as the pod sees it.
    pub client: IpAddr,
}

impl Greeting {
    /// Reads the line `pod address`.
    ///
    /// # Errors
    /// When it is no such line.
    pub fn parse(line: &str) -> Result<Self> {
        let (pod, client) = line
            .trim_end()
            .split_once(' ')
            .context("no pod's greeting")?;
        Ok(Self {
            pod: pod.to_owned(),
            client: client.parse()?,
        })
    }
}

impl std::fmt::Display for Greeting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {}", self.pod, self.client)
    }
}
