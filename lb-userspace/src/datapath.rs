//! The programs in the kernel: load, attach, write maps, read them back.
