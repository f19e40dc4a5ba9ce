//! The long-lived tasks of the agent.
//!
//! ```text
//!  other nodes ◀─probes─▶ liveness ─States─┐
//!                             ▲            ▼
//!  DIR ──inotify──▶ source ──Snapshot──▶ control ──Desired──▶ datapath ──▶ maps, programs
//!       ◀─status.yaml──────────────────────┘          │       ▲      │
//!                                                     ▼       │      │ Programmed
//!  kernel ◀─netlink─▶ neighbor ◀── addresses of peers ┘       │      ▼
//!                        └────── Segment, egress interfaces ──┘   sessions ──▶ bgp, one per peer
//!  routers ◀─────────────────────────── bfd ◀──────── Requests ───────┤           │ ▲
//!                                        └───────────── BfdReport ────┼───────────┼─┘
//!                                                                    │           │
//!  segment ◀─ARP, ND─ layer2 ◀── Programmed; layer2 ◀─claims─▶ other agents; layer2 ──Neighborhood──▶ control
//!  maps ◀── peer ◀─datagrams─▶ other agents; datapath ──Change──▶ peer, before it writes
//!  maps ◀── sweep                 health ◀── Programmed              ▼           ▼
//!  counters ──────────────────▶ admin ◀── everything above ◀── SessionStatus ────┘
//!  DIR, API server ◀── switches ◀─┘ changes that an operator asks for
//! ```
//!
//! With an API server for a source, `source` watches it, and `allocator` writes to it what `control` would write
//! to `status.yaml`, as long as it holds the Lease; `publish` writes there what this node does.
//!
//! Every arrow with a name is a `watch` channel: the newest value counts, a slow reader skips what was
//! overtaken, and nothing can fill up. No task waits for another but `sessions`, which announces what
//! `datapath` has programmed and nothing else.
//!
//! A task ends when its inputs are gone, or when the daemon drops it; each can be dropped at any await.

pub mod admin;
pub mod allocator;
pub mod bfd;
pub mod bgp;
pub mod control;
pub mod datapath;
pub mod health;
pub mod heartbeat;
pub mod kernel_vips;
pub mod layer2;
pub mod legacy;
pub mod liveness;
pub mod neighbor;
pub mod peer;
pub mod publish;
pub mod report;
pub mod sessions;
pub mod source;
pub mod sweep;
pub mod switches;
