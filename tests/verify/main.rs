//! What the kernel programs cost: verified instructions, code, stack, maps.
//!
//! Loads the object given as the first argument into the running kernel, attaches nothing, and prints what
//! the kernel says of each program and each map. The stack is read from the instructions (`stack`), because
//! the verifier tells it only in a log that a successful load does not keep. `--json` prints one object.
#![expect(
    clippy::print_stdout,
    reason = "the figures are the purpose of this program"
)]

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, bail};
use aya::{
    EbpfLoader,
    maps::MapInfo,
    programs::{Program, ProgramInfo},
};
use serde::Serialize;

mod stack;

#[derive(Serialize)]
struct ProgramCost {
    name: String,
    kind: &'static str,
    /// How many instructions the verifier walked, over all paths.
    verified_instructions: u32,
    /// After translation by the kernel, before its compiler.
    translated_bytes: u32,
    jited_bytes: u32,
    /// The deepest chain of calls; the kernel allows 512.
    stack_bytes: usize,
}

#[derive(Serialize)]
struct MapCost {
    name: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Report {
    kernel: String,
    programs: Vec<ProgramCost>,
    maps: Vec<MapCost>,
    map_bytes: u64,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: verify OBJECT [--json]")?;
    let json = match arguments.next().as_deref() {
        None => false,
        Some("--json") => true,
        Some(other) => bail!("unknown argument `{other}`"),
    };
    let object = fs::read(&path).with_context(|| format!("failed to read {path}"))?;
    let report = measure(&object)?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// Loads every program and asks the kernel about it and about the maps it uses.
fn measure(object: &[u8]) -> Result<Report> {
    let stacks = stack::depths(object)?;
    let mut loaded = EbpfLoader::new()
        .load(object)
        .context("failed to load the object")?;
    let mut programs = Vec::new();
    let mut maps = BTreeMap::new();
    for (name, program) in loaded.programs_mut() {
        let kind = load(program).with_context(|| format!("the kernel refuses `{name}`"))?;
        let info = program.info()?;
        for id in info.map_ids()?.unwrap_or_default() {
            let map = MapInfo::from_id(id)?;
            let name = map.name_as_str().unwrap_or_default().to_owned();
            maps.insert(name, memory(&map)?);
        }
        programs.push(cost(
            name,
            kind,
            &info,
            stacks.get(name).copied().unwrap_or_default(),
        ));
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?
        .trim()
        .to_owned();
    let map_bytes = maps.values().sum();
    let maps = maps
        .into_iter()
        .map(|(name, bytes)| MapCost { name, bytes })
        .collect();
    Ok(Report {
        kernel,
        programs,
        maps,
        map_bytes,
    })
}

fn load(program: &mut Program) -> Result<&'static str> {
    match program {
        Program::Xdp(xdp) => {
            xdp.load()?;
            Ok("xdp")
        }
        Program::SchedClassifier(classifier) => {
            classifier.load()?;
            Ok("tc")
        }
        _ => bail!("it is neither XDP nor tc"),
    }
}

fn cost(name: &str, kind: &'static str, info: &ProgramInfo, stack_bytes: usize) -> ProgramCost {
    ProgramCost {
        name: name.to_owned(),
        kind,
        verified_instructions: info.verified_instruction_count().unwrap_or_default(),
        translated_bytes: info.size_translated().unwrap_or_default(),
        jited_bytes: info.size_jitted(),
        stack_bytes,
    }
}

/// What the kernel allocated for a map, in bytes.
fn memory(map: &MapInfo) -> Result<u64> {
    let fd = map.fd()?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    let field = about.lines().find_map(|line| line.strip_prefix("memlock:"));
    field
        .context("the kernel does not tell the size of maps")?
        .trim()
        .parse()
        .context("memlock")
}

fn print(report: &Report) {
    println!("kernel {}\n", report.kernel);
    println!(
        "{:<28} {:<5} {:>10} {:>12} {:>8} {:>8}",
        "program", "kind", "verified", "translated", "jited", "stack"
    );
    for program in &report.programs {
        println!(
            "{:<28} {:<5} {:>10} {:>10} B {:>6} B {:>6} B",
            program.name,
            program.kind,
            program.verified_instructions,
            program.translated_bytes,
            program.jited_bytes,
            program.stack_bytes
        );
    }
    println!("\n{:<28} {:>16}", "map", "memory");
    for map in &report.maps {
        println!("{:<28} {:>14} B", map.name, map.bytes);
    }
    println!("{:<28} {:>14} B", "all", report.map_bytes);
}
