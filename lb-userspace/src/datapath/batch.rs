//! Reads whole arrays: thousands of elements by one system call.
#![expect(
    unsafe_code,
    reason = "aya has no batch operations; this file makes one `bpf` call and nothing else"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::MapData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd`; Linux 5.6.
const LOOKUP_BATCH: libc::c_int = 24;

/// Elements per call.
const CHUNK: u32 = 8192;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: i32,
    element_flags: u64,
    flags: u64,
}

/// Calls `each` with index and value of every element that is not zero, and of others, of an array whose values
/// are `V`s.
///
/// # Errors
/// The map is no array, its values are of another size, or the kernel refuses.
pub(super) fn read_array<V>(array: &MapData, mut each: impl FnMut(u32, V)) -> io::Result<()>
where
    V: FromBytes + IntoBytes + Immutable + Copy,
{
    let info = array.info().map_err(io::Error::other)?;
    let length = info.max_entries();
    if info.value_size() as usize != size_of::<V>() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut keys = vec![0u32; CHUNK as usize];
    let mut values = vec![V::new_zeroed(); CHUNK as usize];
    let zeroes = vec![0; size_of_val(values.as_slice())];
    let mut position = 0u32;
    let mut first = 0;
    while first < length {
        let start = position;
        let mut attributes = Attributes {
            in_batch: if first == 0 {
                0
            } else {
                (&raw const start) as u64
            },
            out_batch: (&raw mut position) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: CHUNK.min(length - first),
            map_fd: array.fd().as_fd().as_raw_fd(),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: `keys` and `values` have room for `count` elements of the sizes that the map has, the
        // positions are `u32`s as for every array, and all of them outlive the call.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LOOKUP_BATCH,
                &raw mut attributes,
                size_of::<Attributes>(),
            )
        };
        let is_end = outcome < 0;
        if is_end {
            let error = io::Error::last_os_error();
            // The end of the map; what there was before it has been copied.
            if error.raw_os_error() != Some(libc::ENOENT) {
                return Err(error);
            }
        }
        let count = attributes.count.min(CHUNK) as usize;
        // Most of a large array was never used, and is passed over by the thousand.
        let read = values.get(..count).unwrap_or_default();
        if read.as_bytes() != zeroes.get(..size_of_val(read)).unwrap_or_default() {
            for (key, value) in keys.iter().zip(read) {
                each(*key, *value);
            }
        }
        first += attributes.count;
        if is_end || count == 0 {
            break;
        }
    }
    Ok(())
}
