//! XDP programs of a few instructions: one passes all, for far ends of veths;
//! one measures the floor; others send what they write.
#![expect(
    unsafe_code,
    reason = "bpf(2) has no safe wrapper that loads single instructions"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// `r0 = XDP_PASS; exit`.
const PASS: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// Swaps source and destination MAC and sends the frame back: the least that a forwarder does.
const SWAP_MACS: [[u8; 8]; 17] = [
    // r6 = data, r2 = data_end; fewer than 14 octets pass.
    [0x61, 0x16, 0, 0, 0, 0, 0, 0],
    [0x61, 0x12, 4, 0, 0, 0, 0, 0],
    [0xbf, 0x63, 0, 0, 0, 0, 0, 0],
    [0x07, 0x03, 0, 0, 14, 0, 0, 0],
    [0x2d, 0x23, 10, 0, 0, 0, 0, 0],
    // Twelve octets out, twelve in.
    [0x61, 0x64, 0, 0, 0, 0, 0, 0],
    [0x69, 0x65, 4, 0, 0, 0, 0, 0],
    [0x61, 0x67, 6, 0, 0, 0, 0, 0],
    [0x69, 0x68, 10, 0, 0, 0, 0, 0],
    [0x63, 0x76, 0, 0, 0, 0, 0, 0],
    [0x6b, 0x86, 4, 0, 0, 0, 0, 0],
    [0x63, 0x46, 6, 0, 0, 0, 0, 0],
    [0x6b, 0x56, 10, 0, 0, 0, 0, 0],
    // XDP_TX, and XDP_PASS.
    [0xb7, 0, 0, 0, 3, 0, 0, 0],
    [0x95, 0, 0, 0, 0, 0, 0, 0],
    [0xb7, 0, 0, 0, 2, 0, 0, 0],
    [0x95, 0, 0, 0, 0, 0, 0, 0],
];

/// The program that swaps MACs, as the floor of what forwarding costs.
#[derive(Debug)]
pub struct Floor(OwnedFd);

impl Floor {
    /// Loads it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load() -> io::Result<Self> {
        load(&SWAP_MACS).map(Self)
    }

    /// Mean time of so many runs on a frame, each of which meets what the last one left.
    ///
    /// # Errors
    /// When the kernel refuses, or the frame does not go back.
    pub fn run(&self, frame: &[u8], repeat: u32) -> io::Result<Duration> {
        let mut attr = TestRun {
            program: number(&self.0),
            result: 0,
            size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
            size_out: 0,
            data_in: frame.as_ptr() as u64,
            data_out: 0,
            repeat,
            nanoseconds: 0,
        };
        let octets = attr.as_mut_bytes();
        // SAFETY: `attr` is readable and writable for its length, and the frame outlives the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                octets.as_mut_ptr(),
                octets.len(),
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        if attr.result != XDP_TX {
            return Err(io::Error::other(format!("returned {}", attr.result)));
        }
        Ok(Duration::from_nanos(attr.nanoseconds.into()))
    }
}

const XDP_TX: u32 = 3;

/// A program that writes frames and sends them back by the interface it runs for.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Loads its instructions.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load(code: &[[u8; 8]]) -> io::Result<Self> {
        load(code).map(Self)
    }

    /// Runs it so many times, each on a frame of that length on its way out of an interface of the calling
    /// thread's namespace. The frame holds whatever was there before.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run(&self, interface: u32, frame: &[u8], repeat: u32) -> io::Result<()> {
        let size = u32::try_from(frame.len()).map_err(io::Error::other)?;
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, size, 0, interface, 0, 0];
        let mut attr = LiveRun {
            head: TestRun {
                program: number(&self.0),
                size_in: size,
                data_in: frame.as_ptr() as u64,
                repeat,
                ..TestRun::new_zeroed()
            },
            context_size: size_of_val(&context) as u32,
            context: context.as_ptr() as u64,
            flags: LIVE_FRAMES,
            ..LiveRun::new_zeroed()
        };
        let octets = attr.as_mut_bytes();
        // SAFETY: `attr` is readable and writable for its length; the frame and the context outlive the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                octets.as_mut_ptr(),
                octets.len(),
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// `BPF_F_TEST_XDP_LIVE_FRAMES`; Linux 5.18.
const LIVE_FRAMES: u32 = 1 << 1;

/// `union bpf_attr` for `BPF_PROG_TEST_RUN`, as far as live frames need it.
#[derive(IntoBytes, FromBytes)]
#[repr(C)]
struct LiveRun {
    head: TestRun,
    context_size: u32,
    context_size_out: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    zero: u32,
}

/// Head of `union bpf_attr` for `BPF_PROG_TEST_RUN`.
#[derive(IntoBytes, FromBytes)]
#[repr(C)]
struct TestRun {
    program: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    nanoseconds: u32,
}

/// Attaches the program that passes everything to an interface of the calling thread's namespace, for as long as the interface or
/// the namespace's `/sys/fs/bpf` lives. What a veth's peer sends back with `XDP_TX` arrives only if its
/// end has such a program.
///
/// # Errors
/// When the kernel refuses.
pub fn attach(interface: &str) -> io::Result<()> {
    let program = load(&PASS)?;
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

fn load(code: &[[u8; 8]]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let attr = ProgLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instructions: u32::try_from(code.len()).map_err(io::Error::other)?,
        code: code.as_ptr() as u64,
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
