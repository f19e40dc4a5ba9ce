//! Real traffic through namespaces. README.md in the folder above draws the topologies.

mod laboratory;
