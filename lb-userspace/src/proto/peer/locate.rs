//! Who has a flow that nobody on a list knows? Questions that are open, and
//! what is believed for a while once they are settled.
//!
//! Every agent that lives is asked, this one too. One that has the flow established settles the question. A
//! half-open one may have been made by a late or forged SYN: it counts when nobody has more, and never at the origin,
//! whose program saw that the segment does not fit it. That nobody has it takes the word of all of them: a node that is gone has no flows any more and does not count, one whose agent
//! is away may have it and leaves the question open, and so does one that does not answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::flow::{FlowName, Holder};

/// How long an answer may take before the question is sent again.
const RETRY: Duration = Duration::from_millis(100);
/// How often it is sent.
const TRIES: u32 = 3;
/// How long it is believed that nobody has a flow.
pub const DENIAL: Duration = Duration::from_secs(1);
/// How long a flow that was found, or of which nothing came out, is not asked for again: until the one who
/// wanted to know could make use of the answer.
const PAUSE: Duration = Duration::from_millis(200);
/// Questions that are open at a time.
const OPEN: usize = 4_096;

/// Whether the agent of a node can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It can.
    Live,
    /// Its flows live on, but it does not answer.
    Away,
    /// The node and its flows are no more.
    Gone,
}

/// What a question came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    pub(super) flow: FlowName,
    /// Who wanted to know; `None` is this node.
    pub(super) origin: Option<IpAddr>,
    pub(super) outcome: Outcome,
}

/// How it was settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The pod that has the flow.
    Found(SocketAddr),
    /// All who live say no.
    Nobody,
    /// Somebody who may have it did not say.
    Uncertain,
}

/// What became of the wish to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// Ask by this number.
    Open(u32),
    /// It is being asked, or was a moment ago.
    Merged,
    /// Too many questions.
    OverBudget,
}

#[derive(Debug)]
struct Question {
    flow: FlowName,
    origin: Option<IpAddr>,
    /// Who has not answered; the empty name is this node.
    waiting: BTreeSet<String>,
    is_certain: bool,
    /// Pods with a half-open flow.
    half_open: BTreeSet<SocketAddr>,
    due: Instant,
    tries: u32,
}

/// The questions of this node.
#[derive(Debug, Default)]
pub(super) struct Locator {
    questions: BTreeMap<u32, Question>,
    /// Questions by flow.
    open: HashMap<FlowName, u32>,
    /// Until when a flow is not asked for again.
    settled: HashMap<FlowName, Instant>,
    expiries: VecDeque<(Instant, FlowName)>,
    number: u32,
    budget: Budget,
}

/// This node among those who are asked.
pub(super) const SELF: &str = "";

impl Locator {
    /// Opens a question to this node and the others.
    pub(super) fn ask<'a>(
        &mut self,
        flow: FlowName,
        origin: Option<IpAddr>,
        others: impl Iterator<Item = (&'a str, Presence)>,
        now: Instant,
    ) -> Asked {
        let is_settled = self.settled.get(&flow).is_some_and(|until| *until > now);
        if is_settled || self.open.contains_key(&flow) {
            return Asked::Merged;
        }
        if self.questions.len() >= OPEN || !self.budget.spend(&flow, now) {
            return Asked::OverBudget;
        }
        let mut question = Question {
            flow,
            origin,
            waiting: BTreeSet::from([SELF.to_owned()]),
            is_certain: true,
            half_open: BTreeSet::new(),
            due: now + RETRY,
            tries: 1,
        };
        for (name, presence) in others {
            match presence {
                Presence::Live => {
                    question.waiting.insert(name.to_owned());
                }
                Presence::Away => question.is_certain = false,
                Presence::Gone => {}
            }
        }
        self.number = self.number.wrapping_add(1);
        self.questions.insert(self.number, question);
        self.open.insert(flow, self.number);
        Asked::Open(self.number)
    }

    /// Who has not answered a question.
    pub(super) fn waiting(&self, number: u32) -> impl Iterator<Item = &str> {
        let question = self.questions.get(&number);
        question
            .into_iter()
            .flat_map(|question| question.waiting.iter().map(String::as_str))
    }

    /// Somebody answered, who has these addresses; none if it is this node.
    pub(super) fn answer(
        &mut self,
        number: u32,
        flow: &FlowName,
        (name, addresses): (&str, &[IpAddr]),
        holder: Option<Holder>,
        now: Instant,
    ) -> Option<Verdict> {
        let question = self.questions.get_mut(&number)?;
        if question.flow != *flow || !question.waiting.remove(name) {
            return None;
        }
        let is_origin = match question.origin {
            None => name == SELF,
            Some(origin) => addresses.contains(&origin),
        };
        match holder {
            Some(Holder {
                pod,
                is_half_open: false,
            }) => return self.settle(number, Outcome::Found(pod), now),
            Some(Holder { pod, .. }) if !is_origin => {
                question.half_open.insert(pod);
            }
            Some(_) | None => {}
        }
        self.conclude(number, now)
    }

    /// What is known of a node changed.
    pub(super) fn follow(&mut self, name: &str, presence: Presence, now: Instant) -> Vec<Verdict> {
        if presence == Presence::Live {
            return Vec::new();
        }
        let mut concerned = Vec::new();
        for (number, question) in &mut self.questions {
            if question.waiting.remove(name) {
                question.is_certain &= presence == Presence::Gone;
                concerned.push(*number);
            }
        }
        let concluded = concerned.into_iter();
        concluded
            .filter_map(|number| self.conclude(number, now))
            .collect()
    }

    /// The time has come: the questions that are to be sent again, and what is settled by it.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> (Vec<(u32, FlowName)>, Vec<Verdict>) {
        while self
            .expiries
            .front()
            .is_some_and(|(until, _)| *until <= now)
        {
            if let Some((until, flow)) = self.expiries.pop_front()
                && self.settled.get(&flow) == Some(&until)
            {
                self.settled.remove(&flow);
            }
        }
        let mut again = Vec::new();
        let mut over = Vec::new();
        for (number, question) in &mut self.questions {
            if question.due > now {
                continue;
            }
            if question.tries >= TRIES {
                over.push(*number);
                continue;
            }
            question.tries += 1;
            question.due = now + RETRY;
            again.push((*number, question.flow));
        }
        let over = over.into_iter();
        let verdicts = over.filter_map(|number| self.settle(number, Outcome::Uncertain, now));
        (again, verdicts.collect())
    }

    /// When to call [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let dues = self.questions.values().map(|question| question.due);
        let expiry = self.expiries.front().map(|(until, _)| *until);
        dues.chain(expiry).min()
    }

    fn conclude(&mut self, number: u32, now: Instant) -> Option<Verdict> {
        let question = self.questions.get(&number)?;
        if !question.waiting.is_empty() {
            return None;
        }
        let mut half_open = question.half_open.iter();
        let outcome = match (half_open.next(), half_open.next()) {
            (Some(pod), None) => Outcome::Found(*pod),
            (None, _) if question.is_certain => Outcome::Nobody,
            // Of two pods that wait for the client one does not expect this segment, and would reset it.
            _ => Outcome::Uncertain,
        };
        self.settle(number, outcome, now)
    }

    fn settle(&mut self, number: u32, outcome: Outcome, now: Instant) -> Option<Verdict> {
        let Question { flow, origin, .. } = self.questions.remove(&number)?;
        self.open.remove(&flow);
        let until = match outcome {
            Outcome::Nobody => now + DENIAL,
            Outcome::Found(_) | Outcome::Uncertain => now + PAUSE,
        };
        self.settled.insert(flow, until);
        // Nearly in order: one that stands behind a later one is forgotten a little late.
        self.expiries.push_back((until, flow));
        Some(Verdict {
            flow,
            origin,
            outcome,
        })
    }
}
