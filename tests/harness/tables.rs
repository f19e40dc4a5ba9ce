//! The maps of a running agent, read from outside: what the programs decide by,
//! not what the agent says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray};
use aya::programs::loaded_programs;
use lb_common::abi::map;
use lb_common::addr::{AddrWords, Be16, Be32, words6};
use lb_common::hash::{self, Ports};
use lb_common::maps::{Backend, Config, Frontend, FrontendKey4, FrontendKey6, Slot};
use lb_common::outcome::Outcome;
use zerocopy::{FromBytes, IntoBytes};

const TCP: u8 = 6;

/// Maps by name.
#[derive(Debug)]
pub struct Tables {
    programs: BTreeSet<u32>,
    ids: BTreeMap<String, u32>,
}

impl Tables {
    /// Those of the programs that a process has loaded.
    ///
    /// # Errors
    /// When the process is gone or the kernel does not show a map.
    pub fn of_process(id: u32) -> Result<Self> {
        let mut programs = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/{id}/fdinfo"))? {
            // A descriptor may be closed while we look.
            let Ok(text) = fs::read_to_string(entry?.path()) else {
                continue;
            };
            let number = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
            programs.extend(
                number
                    .map(|number| number.trim().parse::<u32>())
                    .transpose()?,
            );
        }
        let mut ids = BTreeMap::new();
        // A program of another process may go between its number and itself.
        for program in loaded_programs().flatten() {
            if !programs.contains(&program.id()) {
                continue;
            }
            for map in program.map_ids()?.into_iter().flatten() {
                let info = MapInfo::from_id(map)?;
                ids.insert(info.name_as_str().unwrap_or_default().to_owned(), map);
            }
        }
        Ok(Self { programs, ids })
    }

    /// The kernel's numbers of the programs.
    pub const fn programs(&self) -> &BTreeSet<u32> {
        &self.programs
    }

    /// The configuration of the programs.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn config(&self) -> Result<Config> {
        self.element::<{ size_of::<Config>() }, _>(map::CONFIG, 0)
    }

    /// The pods that a TCP connection's slot names: first the one to which its packets go now.
    ///
    /// # Errors
    /// When nothing serves the target.
    pub fn owners(
        &self,
        local: SocketAddr,
        target: SocketAddr,
    ) -> Result<[Option<IpAddr>; Slot::DEPTH]> {
        let config = self.config()?;
        let ports = Ports {
            source: Be16::new(local.port()),
            destination: Be16::new(target.port()),
            protocol: TCP,
        };
        let (frontend, hash) = match (local.ip(), target.ip()) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                let (client, vip) = (Be32::new(client.to_bits()), Be32::new(vip.to_bits()));
                let key = FrontendKey4 {
                    addr: vip,
                    port: ports.destination,
                    protocol: TCP,
                    zero: 0,
                };
                let frontend =
                    self.frontend::<{ size_of::<FrontendKey4>() }>(map::FRONTENDS4, &key)?;
                (frontend, hash::hash4(&config.flow_key, client, vip, ports))
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                let (client, vip) = (words6(client), words6(vip));
                let key = FrontendKey6 {
                    addr: vip,
                    port: ports.destination,
                    protocol: TCP,
                    zero: 0,
                };
                let frontend =
                    self.frontend::<{ size_of::<FrontendKey6>() }>(map::FRONTENDS6, &key)?;
                (frontend, hash::hash6(&config.flow_key, client, vip, ports))
            }
            _ => bail!("{local} and {target} are of different families"),
        };
        let index = frontend.slots + (hash & frontend.mask);
        let slot: Slot = self.element::<{ size_of::<Slot>() }, _>(map::SLOTS, index)?;
        let mut owners = [None; Slot::DEPTH];
        for (owner, number) in owners.iter_mut().zip(slot.owners()) {
            if number != 0 {
                let index = frontend.backends + u32::from(number);
                let backend: Backend =
                    self.element::<{ size_of::<Backend>() }, _>(map::BACKENDS, index)?;
                *owner = Some(address(backend.addr, target.is_ipv4()));
            }
        }
        Ok(owners)
    }

    /// The pod to which a TCP connection's packets go now.
    ///
    /// # Errors
    /// When nothing serves the target.
    pub fn backend(&self, local: SocketAddr, target: SocketAddr) -> Result<IpAddr> {
        let [owner, ..] = self.owners(local, target)?;
        owner.context("nobody owns the slot")
    }

    /// How often something happened on this node.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn outcome(&self, outcome: Outcome) -> Result<u64> {
        let counters = PerCpuArray::<_, u64>::try_from(self.map(map::OUTCOMES)?)?;
        Ok(counters.get(&(outcome as u32), 0)?.iter().sum())
    }

    fn element<const N: usize, T: FromBytes>(&self, name: &str, index: u32) -> Result<T> {
        let array = Array::<_, [u8; N]>::try_from(self.map(name)?)?;
        let bytes = array
            .get(&index, 0)
            .with_context(|| format!("{name}[{index}]"))?;
        read(&bytes)
    }

    fn frontend<const K: usize>(
        &self,
        name: &str,
        key: &(impl IntoBytes + zerocopy::Immutable),
    ) -> Result<Frontend> {
        let key: [u8; K] = key.as_bytes().try_into()?;
        let hash = HashMap::<_, [u8; K], [u8; size_of::<Frontend>()]>::try_from(self.map(name)?)?;
        read(&hash.get(&key, 0).context("no such frontend")?)
    }

    fn map(&self, name: &str) -> Result<Map> {
        let id = *self
            .ids
            .get(name)
            .with_context(|| format!("the process has no map {name}"))?;
        Ok(Map::from_map_data(MapData::from_id(id)?)?)
    }
}

fn read<T: FromBytes>(bytes: &[u8]) -> Result<T> {
    T::read_from_bytes(bytes)
        .ok()
        .context("a map value of another size")
}

fn address(words: AddrWords, is_ipv4: bool) -> IpAddr {
    let [first, rest @ ..] = words;
    if is_ipv4 {
        return Ipv4Addr::from_bits(first.host()).into();
    }
    let bits = rest.iter().fold(u128::from(first.host()), |bits, word| {
        bits << 32 | u128::from(word.host())
    });
    Ipv6Addr::from_bits(bits).into()
}

#[cfg(test)]
mod tests {
    use lb_common::addr::words4;

    use super::*;

    #[test]
    fn addresses_come_back_from_their_words() {
        let v4 = Ipv4Addr::new(10, 1, 0, 2);
        assert_eq!(address(words4(v4), true), IpAddr::from(v4));
        let v6: Ipv6Addr = "fd00:1::2".parse().unwrap();
        assert_eq!(address(words6(v6), false), IpAddr::from(v6));
    }
}
