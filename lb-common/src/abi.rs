//! The names and the version by which the object and the agent know each other.

/// Version of the map layouts and of their meaning; part of the pin directory's name.
pub const ABI_VERSION: u32 = 4;

/// Names of the programs in the object.
pub mod program {
    /// XDP on the compute port, multi-buffer capable (kernel 5.18).
    pub const INGRESS: &str = "torline_ingress";
    /// The same for drivers and kernels without multi-buffer XDP.
    pub const INGRESS_LINEAR: &str = "torline_ingress_linear";
    /// Where [`INGRESS`] goes on with what is not for a flow it knows: reached by tail call alone.
    pub const RESUME: &str = "torline_resume";
    /// Where [`INGRESS_LINEAR`] goes on.
    pub const RESUME_LINEAR: &str = "torline_resume_linear";
    /// tc egress on every interface with a route to clients.
    pub const EGRESS: &str = "torline_egress";
}

/// Names of the maps in the object.
pub mod map {
    /// Array of one [`crate::maps::Config`].
    pub const CONFIG: &str = "CONFIG";
    /// Hash: [`crate::maps::FrontendKey4`] to [`crate::maps::Frontend`].
    pub const FRONTENDS4: &str = "FRONTENDS4";
    /// Hash: [`crate::maps::FrontendKey6`] to [`crate::maps::Frontend`].
    pub const FRONTENDS6: &str = "FRONTENDS6";
    /// Mmap-able array of [`crate::maps::Slot`].
    pub const SLOTS: &str = "SLOTS";
    /// Array of [`crate::maps::Backend`].
    pub const BACKENDS: &str = "BACKENDS";
    /// Array of [`crate::maps::Node`]; number 0 is this node.
    pub const NODES: &str = "NODES";
    /// Hash: [`crate::maps::MacKey`] to a node number (`u32`).
    pub const PEER_MACS: &str = "PEER_MACS";
    /// Hash: tunnel address of a peer (`[Be32; 4]`, IPv4 in the first word) to a node number (`u32`).
    pub const PEER_ADDRS: &str = "PEER_ADDRS";
    /// Hash: [`crate::maps::BackendKey4`] to an index in [`BACKENDS`] (`u32`).
    pub const BACKEND_INDEX4: &str = "BACKEND_INDEX4";
    /// Hash: [`crate::maps::BackendKey6`] to an index in [`BACKENDS`] (`u32`).
    pub const BACKEND_INDEX6: &str = "BACKEND_INDEX6";
    /// Hash: [`crate::addr::Be32`] to [`crate::maps::Vip`].
    pub const VIPS4: &str = "VIPS4";
    /// Hash: `[Be32; 4]` to [`crate::maps::Vip`].
    pub const VIPS6: &str = "VIPS6";
    /// LRU hash: [`crate::maps::FlowKey4`] to [`crate::maps::Flow`], flows whose handshake is open.
    pub const HALF_OPEN4: &str = "HALF_OPEN4";
    /// LRU hash: [`crate::maps::FlowKey6`] to [`crate::maps::Flow`], flows whose handshake is open.
    pub const HALF_OPEN6: &str = "HALF_OPEN6";
    /// Hash: [`crate::maps::FlowKey4`] to [`crate::maps::Flow`], established TCP.
    pub const ESTABLISHED4: &str = "ESTABLISHED4";
    /// Hash: [`crate::maps::FlowKey6`] to [`crate::maps::Flow`], established TCP.
    pub const ESTABLISHED6: &str = "ESTABLISHED6";
    /// LRU hash: [`crate::maps::FlowKey4`] to [`crate::maps::Flow`], UDP that the pod has not answered.
    pub const UNANSWERED4: &str = "UNANSWERED4";
    /// LRU hash: [`crate::maps::FlowKey6`] to [`crate::maps::Flow`], UDP that the pod has not answered.
    pub const UNANSWERED6: &str = "UNANSWERED6";
    /// Hash: [`crate::maps::FlowKey4`] to [`crate::maps::Flow`], UDP that the pod answered.
    pub const UDP4: &str = "UDP4";
    /// Hash: [`crate::maps::FlowKey6`] to [`crate::maps::Flow`], UDP that the pod answered.
    pub const UDP6: &str = "UDP6";
    /// LRU hash: forward [`crate::maps::FlowKey4`] to [`crate::maps::Exception`].
    pub const EXCEPTIONS4: &str = "EXCEPTIONS4";
    /// LRU hash: forward [`crate::maps::FlowKey6`] to [`crate::maps::Exception`].
    pub const EXCEPTIONS6: &str = "EXCEPTIONS6";
    /// Hash: forward [`crate::maps::FlowKey4`] to [`crate::maps::Legacy`].
    pub const LEGACY4: &str = "LEGACY4";
    /// Hash: forward [`crate::maps::FlowKey6`] to [`crate::maps::Legacy`].
    pub const LEGACY6: &str = "LEGACY6";
    /// Ring buffer of [`crate::maps::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU array of `u64`, by bucket: when the next event is due, see [`crate::limit`].
    pub const EVENT_DUE: &str = "EVENT_DUE";
    /// Per-CPU array of one [`crate::maps::Tour`], scratch of the programs.
    pub const TOUR: &str = "TOUR";
    /// Per-CPU array of `u64`, by [`crate::outcome::Outcome`].
    pub const OUTCOMES: &str = "OUTCOMES";
    /// Program array of one: [`super::program::RESUME`].
    pub const PROGRAMS: &str = "PROGRAMS";
    /// Program array of one: [`super::program::RESUME_LINEAR`].
    pub const PROGRAMS_LINEAR: &str = "PROGRAMS_LINEAR";
    /// Per-CPU array of [`crate::maps::FrontendStats`], by frontend id.
    pub const FRONTEND_STATS: &str = "FRONTEND_STATS";
    /// Per-CPU array of `u64`, by [`crate::drop::DropReason`].
    pub const DROPS: &str = "DROPS";
    /// Per-CPU array of one `u64`: when the next reply of the programs' own is due, see [`crate::limit`].
    pub const REPLY_DUE: &str = "REPLY_DUE";
}
