//! The XDP program that passes everything, for the far ends of veths.
#![expect(
    unsafe_code,
    reason = "bpf(2) has no safe wrapper that loads two instructions"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::net::if_::if_nametoindex;
use zerocopy::{Immutable, IntoBytes};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// `r0 = XDP_PASS; exit`.
const PASS: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// Attaches the program to an interface of the calling thread's namespace, for as long as the interface or
/// the namespace's `/sys/fs/bpf` lives. What a veth's peer sends back with `XDP_TX` arrives only if its
/// end has such a program.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn attach(interface: &str) -> io::Result<()> {
    let program = load()?;
    let link = bpf(
        BPF_LINK_CREATE,
        &LinkCreate {
            program: number(&program),
            target: if_nametoindex(interface)?,
            attach_type: BPF_XDP,
            flags: 0,
        },
    )?;
    let path = Path::new("/sys/fs/bpf").join(interface);
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pin = ObjPin {
        path: path.as_ptr() as u64,
        fd: number(&link),
        flags: 0,
    };
    bpf_done(BPF_OBJ_PIN, &pin)
}

fn load() -> io::Result<OwnedFd> {
    let license = c"GPL";
    let attr = ProgLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instructions: 2,
        code: PASS.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    bpf(BPF_PROG_LOAD, &attr)
}

/// Head of `union bpf_attr` for `BPF_PROG_LOAD`; what is left out is zero.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct ProgLoad {
    program_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// The same for `BPF_LINK_CREATE`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// The same for `BPF_OBJ_PIN`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct ObjPin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// A call that returns a descriptor.
fn bpf(command: libc::c_int, attr: &(impl IntoBytes + Immutable)) -> io::Result<OwnedFd> {
    let fd = call(command, attr.as_bytes())?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call succeeded and returned a descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A call that returns nothing.
fn bpf_done(command: libc::c_int, attr: &(impl IntoBytes + Immutable)) -> io::Result<()> {
    call(command, attr.as_bytes()).map(drop)
}

fn call(command: libc::c_int, attr: &[u8]) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is readable for its length, and what it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), attr.len()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}
