//! What a datagram carries: messages one behind the other, each with its kind
//! and length.
//!
//! ```text
//! kind (8 bits), zero (8), length of the body (16), body
//! ```
//!
//! A kind that is not known is skipped, so that agents of two versions understand each other in what both
//! know. Whatever else is not exactly as written here makes the whole datagram malformed.

use super::flow::{FlowName, Holder, Located, Reason, end_length};
use super::history::{Chunk, Range};
use super::wire::{Malformed, Reader};

/// Longest UDP payload: what every path of IPv6 carries (RFC 8200 §5).
pub const MAX_DATAGRAM: usize = 1_200;

/// Longest [`Message::Gossip`]: it shares its datagram with little else.
pub const MAX_GOSSIP: usize = 1_100;

/// Octets of kind and length.
const HEADER: usize = 4;

/// A message between agents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// To `c0`'s owner: the flows are there. One with a number is acknowledged and sent again until it is.
    Found {
        /// Counted up by the sender; 0 wants no acknowledgement.
        number: u32,
        /// Why.
        reason: Reason,
        /// The flows.
        flows: Vec<Located>,
    },
    /// The [`Message::Found`] of that number has arrived.
    Acknowledge(u32),
    /// Who has the flow?
    Ask {
        /// Names the question in the answer.
        question: u32,
        /// The flow.
        flow: FlowName,
    },
    /// To a [`Message::Ask`].
    Answer {
        /// The question's.
        question: u32,
        /// The flow as well, so that no answer is taken for another one.
        flow: FlowName,
        /// The pod that has it; nobody here if there is none.
        holder: Option<Holder>,
    },
    /// To the origin of a list: no living node has the flow.
    Nobody(FlowName),
    /// What do these slots remember?
    Recall(Range),
    /// To a [`Message::Recall`].
    Remember(Chunk),
    /// About the member list: as [`crate::proto::members`] writes it.
    Gossip(Vec<u8>),
}

mod kind {
    pub(super) const FOUND: u8 = 1;
    pub(super) const ACKNOWLEDGE: u8 = 2;
    pub(super) const ASK: u8 = 3;
    pub(super) const ANSWER: u8 = 4;
    pub(super) const NOBODY: u8 = 5;
    pub(super) const RECALL: u8 = 6;
    pub(super) const REMEMBER: u8 = 7;
    pub(super) const GOSSIP: u8 = 8;
}

mod answer {
    pub(super) const NOT_HERE: u8 = 0;
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const HALF_OPEN: u8 = 2;
}

impl Message {
    const fn kind(&self) -> u8 {
        match self {
            Self::Found { .. } => kind::FOUND,
            Self::Acknowledge(_) => kind::ACKNOWLEDGE,
            Self::Ask { .. } => kind::ASK,
            Self::Answer { .. } => kind::ANSWER,
            Self::Nobody(_) => kind::NOBODY,
            Self::Recall(_) => kind::RECALL,
            Self::Remember(_) => kind::REMEMBER,
            Self::Gossip(_) => kind::GOSSIP,
        }
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.kind(), 0, 0, 0]);
        let begin = out.len();
        match self {
            Self::Found {
                number,
                reason,
                flows,
            } => {
                out.extend(number.to_be_bytes());
                out.push(reason.number());
                flows.iter().for_each(|located| located.write(out));
            }
            Self::Acknowledge(number) => out.extend(number.to_be_bytes()),
            Self::Ask { question, flow } => {
                out.extend(question.to_be_bytes());
                flow.write(out);
            }
            Self::Answer {
                question,
                flow,
                holder,
            } => {
                out.extend(question.to_be_bytes());
                out.push(match holder {
                    None => answer::NOT_HERE,
                    Some(holder) if holder.is_half_open => answer::HALF_OPEN,
                    Some(_) => answer::ESTABLISHED,
                });
                match holder {
                    Some(Holder { pod, .. }) => Located {
                        flow: *flow,
                        pod: *pod,
                    }
                    .write(out),
                    None => flow.write(out),
                }
            }
            Self::Nobody(flow) => flow.write(out),
            Self::Recall(range) => range.write(out),
            Self::Remember(chunk) => chunk.write(out),
            Self::Gossip(octets) => out.extend(octets),
        }
        let length = (out.len() - begin) as u16;
        if let Some(field) = out.get_mut(begin - 2..begin) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Octets that [`Self::write`] appends.
    pub fn length(&self) -> usize {
        HEADER
            + match self {
                Self::Found { flows, .. } => 5 + flows.iter().map(Located::length).sum::<usize>(),
                Self::Acknowledge(_) => 4,
                Self::Ask { flow, .. } => 4 + flow.length(),
                Self::Answer { flow, holder, .. } => {
                    5 + flow.length() + holder.map_or(0, |holder| end_length(holder.pod))
                }
                Self::Nobody(flow) => flow.length(),
                Self::Recall(range) => range.length(),
                Self::Remember(chunk) => chunk.length(),
                Self::Gossip(octets) => octets.len(),
            }
    }

    /// How many flows it says the place of.
    pub(super) const fn flows(&self) -> u64 {
        match self {
            Self::Found { flows, .. } => flows.len() as u64,
            _ => 0,
        }
    }

    /// Reads the messages of a datagram.
    ///
    /// # Errors
    /// They are not ours, or of another version.
    pub fn read_all(octets: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut reader = Reader::new(octets);
        let mut messages = Vec::new();
        while !reader.is_empty() {
            let [kind, _zero] = reader.array()?;
            let length = reader.u16()?;
            let body = reader.take(usize::from(length))?;
            messages.extend(Self::read(kind, body)?);
        }
        Ok(messages)
    }

    fn read(kind: u8, mut body: Reader<'_>) -> Result<Option<Self>, Malformed> {
        let message = match kind {
            kind::FOUND => {
                let number = body.u32()?;
                let reason = Reason::from_number(body.u8()?)?;
                let mut flows = Vec::new();
                while !body.is_empty() {
                    flows.push(Located::read(&mut body)?);
                }
                Self::Found {
                    number,
                    reason,
                    flows,
                }
            }
            kind::ACKNOWLEDGE => Self::Acknowledge(body.u32()?),
            kind::ASK => Self::Ask {
                question: body.u32()?,
                flow: FlowName::read(&mut body)?,
            },
            kind::ANSWER => {
                let question = body.u32()?;
                let state = body.u8()?;
                let (flow, holder) = match state {
                    answer::NOT_HERE => (FlowName::read(&mut body)?, None),
                    answer::ESTABLISHED | answer::HALF_OPEN => {
                        let Located { flow, pod } = Located::read(&mut body)?;
                        let is_half_open = state == answer::HALF_OPEN;
                        (flow, Some(Holder { pod, is_half_open }))
                    }
                    _ => return Err(Malformed),
                };
                Self::Answer {
                    question,
                    flow,
                    holder,
                }
            }
            kind::NOBODY => Self::Nobody(FlowName::read(&mut body)?),
            kind::RECALL => Self::Recall(Range::read(&mut body)?),
            kind::REMEMBER => Self::Remember(Chunk::read(&mut body)?),
            kind::GOSSIP => Self::Gossip(body.rest().to_vec()),
            _ => return Ok(None),
        };
        body.finish()?;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests;
