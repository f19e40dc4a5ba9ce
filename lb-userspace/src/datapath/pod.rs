//! Lets a `zerocopy` type be the key or value of a map.
#![expect(
    unsafe_code,
    reason = "aya::Pod is an unsafe trait; this is its one implementation"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value that crosses into the kernel as its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub(crate) struct Pod<T>(pub(crate) T);

// SAFETY: `IntoBytes` proves that `T` has no padding, `FromBytes` that every bit pattern is a `T`, and
// `repr(transparent)` gives `Pod<T>` the layout of `T`.
unsafe impl<T: IntoBytes + FromBytes + Immutable + Copy + 'static> aya::Pod for Pod<T> {}
