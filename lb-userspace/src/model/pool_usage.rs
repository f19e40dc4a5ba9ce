//! How many addresses of a pool are in use.

/// Addresses of a pool by family, each at most `i64::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolUsage {
    /// IPv4 addresses that Services hold.
    pub assigned_v4: i64,
    /// IPv6 addresses that Services hold.
    pub assigned_v6: i64,
    /// IPv4 addresses that are free.
    pub available_v4: i64,
    /// IPv6 addresses that are free.
    pub available_v6: i64,
}
