//! How much stack a program needs, read from its instructions.
//!
//! BPF addresses its stack only through r10 and copies of it, so the lowest offset in a function is its frame.
//! Frames add up along calls, each rounded up as the kernel rounds them where it compiles programs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, anyhow};
use aya_obj::{Object, generated::bpf_insn};

/// `check_max_stack_depth` in the kernel: frames are multiples of 16 bytes under the JIT.
const FRAME_ALIGN: usize = 16;

const FRAME_POINTER: u8 = 10;

const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const ADD64_IMMEDIATE: u8 = 0x07;
const MOV64_REGISTER: u8 = 0xbf;
const LOAD_IMMEDIATE64: u8 = 0x18;
const CALL: u8 = 0x85;
/// `src_reg` of a call to a function of the program.
const PSEUDO_CALL: u8 = 1;
/// `src_reg` of an immediate load that is the address of a function of the program.
const PSEUDO_FUNC: u8 = 4;

/// The stack of every program of an object, in bytes, by name.
///
/// # Errors
/// When this is no object.
pub(crate) fn depths(object: &[u8]) -> Result<HashMap<String, usize>> {
    let mut object = Object::parse(object).map_err(|error| anyhow!("not an object: {error}"))?;
    let sections = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object
        .relocate_calls(&sections)
        .map_err(|error| anyhow!("not linkable: {error}"))?;
    let programs = object.programs.iter().filter_map(|(name, program)| {
        let function = object.functions.get(&program.function_key())?;
        Some((name.clone(), depth(&function.instructions)))
    });
    Ok(programs.collect())
}

/// The stack of a program whose functions lie one after another, in bytes.
fn depth(program: &[bpf_insn]) -> usize {
    let calls: Vec<_> = program.iter().enumerate().filter_map(target).collect();
    let starts: BTreeSet<_> = calls.iter().map(|(_, to)| *to).chain([0]).collect();
    let start_of = |at: usize| starts.range(..=at).next_back().copied().unwrap_or_default();
    let ends = starts.iter().copied().skip(1).chain([program.len()]);
    let frames: BTreeMap<_, _> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| (*start, frame(program.get(*start..end).unwrap_or_default())))
        .collect();
    let mut callees = BTreeMap::<usize, BTreeSet<usize>>::new();
    for (from, to) in calls {
        callees.entry(start_of(from)).or_default().insert(to);
    }
    chain(0, &frames, &callees)
}

/// The function that an instruction calls, with the instruction's own place.
fn target((at, instruction): (usize, &bpf_insn)) -> Option<(usize, usize)> {
    let is_target = match instruction.code {
        CALL => instruction.src_reg() == PSEUDO_CALL,
        LOAD_IMMEDIATE64 => instruction.src_reg() == PSEUDO_FUNC,
        _ => false,
    };
    let to = at
        .checked_add(1)?
        .checked_add_signed(isize::try_from(instruction.imm).ok()?)?;
    is_target.then_some((at, to))
}

/// The kernel refuses recursion, so this ends.
fn chain(
    start: usize,
    frames: &BTreeMap<usize, usize>,
    callees: &BTreeMap<usize, BTreeSet<usize>>,
) -> usize {
    let below = callees
        .get(&start)
        .into_iter()
        .flatten()
        .map(|to| chain(*to, frames, callees));
    frames.get(&start).copied().unwrap_or_default() + below.max().unwrap_or_default()
}

fn frame(function: &[bpf_insn]) -> usize {
    let mut lowest = 0;
    let mut is_copy = [false; 16];
    for instruction in function {
        let (class, to) = (instruction.code & 0x07, usize::from(instruction.dst_reg()));
        let base = match class {
            LDX => instruction.src_reg(),
            ST | STX => instruction.dst_reg(),
            _ => 0,
        };
        if base == FRAME_POINTER {
            lowest = lowest.min(i32::from(instruction.off));
        }
        if instruction.code == ADD64_IMMEDIATE && is_copy[to] {
            lowest = lowest.min(instruction.imm);
        }
        // Stores write no register.
        if class != ST && class != STX {
            is_copy[to] =
                instruction.code == MOV64_REGISTER && instruction.src_reg() == FRAME_POINTER;
        }
    }
    usize::try_from(lowest.unsigned_abs())
        .unwrap_or(usize::MAX)
        .next_multiple_of(FRAME_ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> bpf_insn {
        let mut instruction = bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: Default::default(),
            off,
            imm,
        };
        instruction.set_dst_reg(dst);
        instruction.set_src_reg(src);
        instruction
    }

    const EXIT: u8 = 0x95;
    const STORE64: u8 = 0x7b;

    #[test]
    fn the_lowest_store_is_the_frame() {
        let program = [
            instruction(STORE64, 10, 1, -40, 0),
            instruction(EXIT, 0, 0, 0, 0),
        ];
        assert_eq!(depth(&program), 48);
    }

    #[test]
    fn an_address_handed_to_a_helper_counts() {
        let program = [
            instruction(MOV64_REGISTER, 2, 10, 0, 0),
            instruction(ADD64_IMMEDIATE, 2, 0, 0, -64),
            instruction(EXIT, 0, 0, 0, 0),
        ];
        assert_eq!(depth(&program), 64);
    }

    #[test]
    fn a_register_that_no_longer_points_to_the_stack_does_not_count() {
        let program = [
            instruction(MOV64_REGISTER, 2, 10, 0, 0),
            instruction(MOV64_REGISTER, 2, 1, 0, 0),
            instruction(ADD64_IMMEDIATE, 2, 0, 0, -64),
        ];
        assert_eq!(depth(&program), 0);
    }

    #[test]
    fn frames_add_up_along_the_deepest_call() {
        let program = [
            instruction(STORE64, 10, 1, -16, 0),
            instruction(CALL, 0, PSEUDO_CALL, 0, 2),
            instruction(CALL, 0, PSEUDO_CALL, 0, 3),
            instruction(EXIT, 0, 0, 0, 0),
            instruction(STORE64, 10, 1, -96, 0),
            instruction(EXIT, 0, 0, 0, 0),
            instruction(STORE64, 10, 1, -32, 0),
            instruction(EXIT, 0, 0, 0, 0),
        ];
        assert_eq!(depth(&program), 16 + 96);
    }
}
