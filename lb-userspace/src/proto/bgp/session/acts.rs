//! What a session does, for a capture.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::proto::bgp::fsm::State;

/// Octets kept for an owner that does not take them.
const ROOM: usize = 256 * 1024;

/// Something that a session did, or that its peer did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// It sent a message.
    Sent(Bytes),
    /// The peer sent a message, or what should have been one.
    Received(Bytes),
    /// It went from one state to another.
    State {
        /// Before.
        from: State,
        /// After.
        to: State,
    },
}

impl Act {
    /// Octets of the message.
    pub const fn octets(&self) -> usize {
        match self {
            Self::Sent(message) | Self::Received(message) => message.len(),
            Self::State { .. } => 0,
        }
    }
}

/// The latest acts, until they are taken.
#[derive(Debug, Default)]
pub(super) struct Acts {
    queue: VecDeque<Act>,
    octets: usize,
}

impl Acts {
    pub(super) fn push(&mut self, act: Act) {
        // What a change of state takes up besides.
        const EACH: usize = 64;
        self.octets += act.octets();
        self.queue.push_back(act);
        while self.octets + self.queue.len() * EACH > ROOM {
            self.pop();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Act> {
        let act = self.queue.pop_front()?;
        self.octets -= act.octets();
        Some(act)
    }
}
