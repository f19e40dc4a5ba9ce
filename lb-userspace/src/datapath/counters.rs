//! Reads the counters of the programs: per frontend, per drop reason, per
//! outcome.

use aya::Ebpf;
use aya::maps::{MapData, MapError, PerCpuArray};
use lb_common::abi::map;
use lb_common::maps::FrontendStats;
use lb_common::outcome::Outcome;

use super::handle::{HandleError, take};
use super::pod::Pod;

/// The maps that count.
pub struct Counters {
    frontends: PerCpuArray<MapData, Pod<FrontendStats>>,
    drops: PerCpuArray<MapData, u64>,
    outcomes: PerCpuArray<MapData, u64>,
}

impl Counters {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, HandleError> {
        Ok(Self {
            frontends: take(object, map::FRONTEND_STATS)?,
            drops: take(object, map::DROPS)?,
            outcomes: take(object, map::OUTCOMES)?,
        })
    }

    /// Counters of a frontend, summed over all possible CPUs.
    ///
    /// # Errors
    /// There is no such frontend id.
    pub fn frontend(&self, id: u32) -> Result<FrontendStats, MapError> {
        let per_cpu = self.frontends.get(&id, 0)?;
        Ok(per_cpu
            .iter()
            .fold(FrontendStats::default(), |sum, Pod(cpu)| FrontendStats {
                packets: sum.packets.wrapping_add(cpu.packets),
                bytes: sum.bytes.wrapping_add(cpu.bytes),
                flows: sum.flows.wrapping_add(cpu.flows),
                delivered: sum.delivered.wrapping_add(cpu.delivered),
            }))
    }

    /// Packets dropped per reason number, summed over all possible CPUs; zeroes are left out.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn drops(&self) -> Result<Vec<(u32, u64)>, MapError> {
        let mut drops = Vec::new();
        for reason in 0..self.drops.len() {
            let count = sum(&self.drops, reason)?;
            if count != 0 {
                drops.push((reason, count));
            }
        }
        Ok(drops)
    }

    /// How often each outcome was counted, summed over all possible CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn outcomes(&self) -> Result<Vec<(Outcome, u64)>, MapError> {
        let outcomes = Outcome::ALL.iter().copied();
        outcomes
            .map(|outcome| Ok((outcome, sum(&self.outcomes, outcome as u32)?)))
            .collect()
    }
}

/// An element, summed over all possible CPUs.
fn sum(counters: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64, MapError> {
    let per_cpu = counters.get(&index, 0)?;
    Ok(per_cpu.iter().copied().fold(0, u64::wrapping_add))
}
