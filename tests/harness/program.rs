//! The real programs in the kernel, run on single frames with
//! `BPF_PROG_TEST_RUN`.
#![expect(
    unsafe_code,
    reason = "aya wants a promise that map types are plain data"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues, ProgramArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use lb_common::abi;
use lb_common::drop::DropReason;
use lb_common::maps::{Event, FrontendStats};
use lb_common::outcome::Outcome;
use zerocopy::{FromBytes, IntoBytes};

/// A map key or value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

// SAFETY: zerocopy proves that every bit pattern is a value and that there is no padding.
unsafe impl<T: FromBytes + IntoBytes + Copy + 'static> aya::Pod for Plain<T> {}

/// A key or value of a map.
pub trait Element: FromBytes + IntoBytes + Copy + 'static {}
impl<T: FromBytes + IntoBytes + Copy + 'static> Element for T {}

/// What a program did with a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The program's return value.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// The loaded object.
pub struct Programs {
    ebpf: Ebpf,
    /// An array is emptied when its last handle goes.
    calls: Vec<ProgramArray<MapData>>,
}

impl Programs {
    /// Loads the object with small maps and verifies its programs.
    pub fn load() -> Result<Self> {
        Self::load_with(&[abi::program::INGRESS, abi::program::INGRESS_LINEAR], &[])
    }

    /// The same, of the XDP programs these only, with some maps of other sizes.
    pub fn load_with(ingress: &[&str], sizes: &[(&str, u32)]) -> Result<Self> {
        let path = object_path();
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries(abi::map::SLOTS, 4_096)
            .map_max_entries(abi::map::BACKENDS, 4_096)
            .map_max_entries(abi::map::BACKEND_INDEX4, 4_096)
            .map_max_entries(abi::map::BACKEND_INDEX6, 4_096)
            .map_max_entries(abi::map::EXCEPTIONS4, 4_096)
            .map_max_entries(abi::map::EXCEPTIONS6, 4_096)
            .map_max_entries(abi::map::FRONTEND_STATS, 64);
        for (map, entries) in sizes {
            loader.map_max_entries(map, *entries);
        }
        let mut ebpf = loader
            .load_file(&path)
            .with_context(|| format!("failed to load {}", path.display()))?;
        let pairs = [
            (
                abi::program::INGRESS,
                abi::program::RESUME,
                abi::map::PROGRAMS,
            ),
            (
                abi::program::INGRESS_LINEAR,
                abi::program::RESUME_LINEAR,
                abi::map::PROGRAMS_LINEAR,
            ),
        ];
        let mut calls = Vec::new();
        for (first, second, map) in pairs {
            if !ingress.contains(&first) {
                continue;
            }
            for name in [first, second] {
                let program: &mut Xdp = ebpf
                    .program_mut(name)
                    .context("no such program")?
                    .try_into()?;
                program
                    .load()
                    .with_context(|| format!("failed to load {name}"))?;
            }
            let map = ebpf.take_map(map).context("no such map")?;
            let mut programs = ProgramArray::try_from(map)?;
            let program: &Xdp = ebpf
                .program(second)
                .context("no such program")?
                .try_into()?;
            programs.set(0, program.fd()?, 0)?;
            calls.push(programs);
        }
        let egress = ebpf
            .program_mut(abi::program::EGRESS)
            .context("no such program")?;
        let egress: &mut SchedClassifier = egress.try_into()?;
        egress.load().context("failed to load the egress program")?;
        Ok(Self { ebpf, calls })
    }

    /// Takes away the programs that go on where the first ones end.
    pub fn forget_calls(&mut self) -> Result<()> {
        // One by one: the kernel empties an array whose last handle goes when it finds the time.
        for mut programs in self.calls.drain(..) {
            programs.clear_index(&0)?;
        }
        Ok(())
    }

    /// The loaded object itself.
    pub fn ebpf(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Runs an XDP program on a frame.
    pub fn ingress(&self, name: &str, frame: &[u8]) -> Result<Run> {
        Ok(self.repeat_ingress(name, frame, 1)?.0)
    }

    /// Runs an XDP program on a frame, which goes on from where the last run left it; gives the mean time.
    pub fn repeat_ingress(&self, name: &str, frame: &[u8], repeat: u32) -> Result<(Run, Duration)> {
        let program: &Xdp = self
            .ebpf
            .program(name)
            .context("no such program")?
            .try_into()?;
        run(program, frame, repeat, None)
    }

    /// Runs an XDP program on a frame whose first buffer ends after so many octets (kernel 6.18).
    pub fn ingress_split(&self, name: &str, frame: &[u8], first: usize) -> Result<Run> {
        let program = self.ebpf.program(name).context("no such program")?;
        let program: &Xdp = program.try_into()?;
        // `struct xdp_md`, whose second word is where the first buffer ends.
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&u32::try_from(first)?.to_ne_bytes());
        Ok(run(program, frame, 1, Some(&context))?.0)
    }

    /// Runs the egress program on a frame.
    pub fn egress(&self, frame: &[u8]) -> Result<Run> {
        let program = self
            .ebpf
            .program(abi::program::EGRESS)
            .context("no such program")?;
        let program: &SchedClassifier = program.try_into()?;
        Ok(run(program, frame, 1, None)?.0)
    }

    /// Writes an element of an array.
    pub fn set<V: Element>(&mut self, map: &str, index: u32, value: V) -> Result<()> {
        let map = self.ebpf.map_mut(map).context("no such map")?;
        let mut array: Array<&mut MapData, Plain<V>> = map.try_into()?;
        Ok(array.set(index, Plain(value), 0)?)
    }

    /// Writes an element of a per-CPU array, the same for every CPU.
    pub fn set_per_cpu<V: Element>(&mut self, map: &str, index: u32, value: V) -> Result<()> {
        let map = self.ebpf.map_mut(map).context("no such map")?;
        let mut array: PerCpuArray<&mut MapData, Plain<V>> = map.try_into()?;
        let values = vec![Plain(value); nr_cpus().map_err(|(_, error)| error)?];
        Ok(array.set(index, PerCpuValues::try_from(values)?, 0)?)
    }

    /// Writes an element of a hash.
    pub fn insert<K: Element, V: Element>(&mut self, map: &str, key: K, value: V) -> Result<()> {
        let map = self.ebpf.map_mut(map).context("no such map")?;
        let mut hash: HashMap<&mut MapData, Plain<K>, Plain<V>> = map.try_into()?;
        Ok(hash.insert(Plain(key), Plain(value), 0)?)
    }

    /// Takes an element out of a hash.
    pub fn remove<K: Element, V: Element>(&mut self, map: &str, key: K) -> Result<()> {
        let map = self.ebpf.map_mut(map).context("no such map")?;
        let mut hash: HashMap<&mut MapData, Plain<K>, Plain<V>> = map.try_into()?;
        Ok(hash.remove(&Plain(key))?)
    }

    /// Every element of a hash.
    pub fn entries<K: Element, V: Element>(&self, map: &str) -> Result<Vec<(K, V)>> {
        let map = self.ebpf.map(map).context("no such map")?;
        let hash: HashMap<&MapData, Plain<K>, Plain<V>> = map.try_into()?;
        hash.iter()
            .map(|entry| {
                entry
                    .map(|(key, value)| (key.0, value.0))
                    .map_err(Into::into)
            })
            .collect()
    }

    /// How often a reason was counted, on all CPUs.
    pub fn drops(&self, reason: DropReason) -> Result<u64> {
        let map = self.ebpf.map(abi::map::DROPS).context("no such map")?;
        let array: PerCpuArray<&MapData, u64> = map.try_into()?;
        Ok(array.get(&(reason as u32), 0)?.iter().sum())
    }

    /// How often something happened, on all CPUs.
    pub fn outcomes(&self, outcome: Outcome) -> Result<u64> {
        let map = self.ebpf.map(abi::map::OUTCOMES).context("no such map")?;
        let array: PerCpuArray<&MapData, u64> = map.try_into()?;
        Ok(array.get(&(outcome as u32), 0)?.iter().sum())
    }

    /// What the agent was told since the last call.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let map = self.ebpf.map_mut(abi::map::EVENTS).context("no such map")?;
        let mut ring = RingBuf::try_from(map)?;
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            let event = Event::read_from_bytes(&item).ok();
            events.push(event.context("an event of another size")?);
        }
        Ok(events)
    }

    /// Counters of a frontend, summed over all CPUs.
    pub fn frontend_stats(&self, id: u32) -> Result<FrontendStats> {
        let map = self
            .ebpf
            .map(abi::map::FRONTEND_STATS)
            .context("no such map")?;
        let array: PerCpuArray<&MapData, Plain<FrontendStats>> = map.try_into()?;
        let mut sum = FrontendStats::default();
        for Plain(one) in array.get(&id, 0)?.iter() {
            sum.packets += one.packets;
            sum.bytes += one.bytes;
            sum.flows += one.flows;
            sum.delivered += one.delivered;
        }
        Ok(sum)
    }
}

/// `$TORLINE_BPF_OBJECT`, else where `cargo xtask build` leaves the object.
pub fn object_path() -> PathBuf {
    env::var_os("TORLINE_BPF_OBJECT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/torline"),
        PathBuf::from,
    )
}

fn run<P>(program: &P, frame: &[u8], repeat: u32, context: Option<&[u8]>) -> Result<(Run, Duration)>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = aya::programs::TestRunResult>,
{
    let mut out = vec![0; frame.len() + 256];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat,
        ctx_in: context,
        ..TestRunOptions::default()
    })?;
    out.truncate(result.data_size_out as usize);
    Ok((
        Run {
            action: result.return_value,
            frame: out,
        },
        result.duration,
    ))
}
