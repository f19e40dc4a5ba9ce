//! The slot array, mapped into the agent: one aligned 8-byte store changes one
//! slot.
#![expect(
    unsafe_code,
    reason = "aya does not map arrays; this file maps one and touches it only through atomics"
)]

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::maps::Slot;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A `BPF_F_MMAPABLE` array of slots.
#[derive(Debug)]
pub struct SlotArray {
    base: NonNull<AtomicU64>,
    len: u32,
}

// SAFETY: the mapping belongs to this value alone and is only touched through atomics.
unsafe impl Send for SlotArray {}

impl SlotArray {
    /// Maps the first `len` slots of an array.
    ///
    /// # Errors
    /// The array is empty, was not made with `BPF_F_MMAPABLE`, or is shorter than `len`.
    pub fn map(array: impl AsFd, len: u32) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(bytes(len)).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced.
        let mapped = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, array, 0) }?;
        Ok(Self {
            base: mapped.cast(),
            len,
        })
    }

    /// Number of slots.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no slot; a mapped array has at least one.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes a slot; packets see the old value or the new one. False if there is no such slot.
    pub fn store(&self, index: u32, slot: Slot) -> bool {
        // A backend's element is written by a system call before the slot that names it: `Release`
        // keeps the store from moving ahead of it.
        self.cell(index)
            .map(|cell| cell.store(slot.0, Ordering::Release))
            .is_some()
    }

    /// Reads a slot.
    pub fn load(&self, index: u32) -> Option<Slot> {
        self.cell(index)
            .map(|cell| Slot(cell.load(Ordering::Acquire)))
    }

    fn cell(&self, index: u32) -> Option<&AtomicU64> {
        if index >= self.len {
            return None;
        }
        // SAFETY: `index` is below `len`, and `len` cells were mapped.
        let cell = unsafe { self.base.add(index as usize) };
        // SAFETY: the cell is mapped as long as `self` lives, page alignment makes it 8-byte aligned,
        // and every bit pattern is an `AtomicU64`.
        Some(unsafe { cell.as_ref() })
    }
}

impl Drop for SlotArray {
    fn drop(&mut self) {
        let base: NonNull<c_void> = self.base.cast();
        // SAFETY: `map` made this mapping with this length, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(base, bytes(self.len)) };
        debug_assert!(unmapped.is_ok(), "a mapping made by `map` can be unmapped");
    }
}

const fn bytes(len: u32) -> usize {
    len as usize * size_of::<Slot>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memory file behaves towards `mmap` as an array does.
    fn array(len: u32) -> std::fs::File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes(len) as u64).unwrap();
        file
    }

    #[test]
    fn a_store_lies_in_the_array_at_eight_bytes_per_slot() {
        use std::os::unix::fs::FileExt;

        let file = array(1024);
        let slots = SlotArray::map(&file, 1024).unwrap();
        assert!(slots.store(1023, Slot::new([7, 6, 5, 4])));

        let mut octets = [0; 8];
        file.read_exact_at(&mut octets, 1023 * 8).unwrap();
        assert_eq!(u64::from_ne_bytes(octets), Slot::new([7, 6, 5, 4]).0);
        assert_eq!(slots.load(1023), Some(Slot::new([7, 6, 5, 4])));
        assert_eq!(slots.load(0), Some(Slot::default()));
    }

    #[test]
    fn a_slot_beyond_the_array_is_refused() {
        let slots = SlotArray::map(array(8), 8).unwrap();
        assert!(!slots.store(8, Slot::new([1, 0, 0, 0])));
        assert_eq!(slots.load(8), None);
    }

    #[test]
    fn an_array_without_slots_cannot_be_mapped() {
        assert!(SlotArray::map(array(0), 0).is_err());
    }
}
