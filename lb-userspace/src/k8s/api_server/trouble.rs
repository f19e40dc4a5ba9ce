//! What keeps a feed from reading, in words that say what to do.

use std::error::Error;

use kube::runtime::watcher;

use super::feed::{self, Name};
use crate::k8s::object::Kind;
use crate::model::intent::Finding;

/// Why a feed cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// The server refuses, and will until somebody does something about it.
    Refused(String),
    /// The server has no such kind, and need not have it.
    Absent,
    /// The server does not answer, or not sensibly.
    Unanswered(String),
}

impl Trouble {
    /// What an error means; nothing if the feed gets over it by itself.
    pub(super) fn of(error: &watcher::Error, name: &Name, namespace: &str) -> Option<Self> {
        let (verb, status) = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status)) => ("list", status),
            watcher::Error::WatchStartFailed(kube::Error::Api(status)) => ("watch", status),
            watcher::Error::WatchError(status) => ("watch", status),
            other => return Some(Self::Unanswered(chain(other))),
        };
        let resource = feed::resource(name);
        let place = place(name, namespace);
        Some(match status.code {
            410 => return None,
            404 if name.is_optional() => Self::Absent,
            401 => Self::Refused(format!(
                "the API server does not know this agent: check the token of its ServiceAccount \
                 or the kubeconfig ({})",
                status.message
            )),
            403 => Self::Refused(format!(
                "not allowed to {verb} {resource}{place}: give its role the verb \"{verb}\" ({})",
                status.message
            )),
            404 => Self::Refused(format!(
                "the API server has no {resource}: apply what `torline crds` prints"
            )),
            _ => Self::Unanswered(format!("{} ({})", status.message, status.code)),
        })
    }

    /// Whether to wait for the feed is of no use.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Absent)
    }
}

/// The findings for troubles; with each stands whether the feed has a list of before.
pub(super) fn findings<'a>(
    troubles: impl Iterator<Item = (&'a Name, &'a Trouble, bool)>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut unanswered = None;
    for (name, trouble, is_complete) in troubles {
        match trouble {
            Trouble::Refused(message) => findings.push(Finding {
                source: String::new(),
                object: object(name),
                field: String::new(),
                message: match is_complete {
                    true => format!("{message}; {}", Finding::UNREAD_KEPT),
                    false => format!("{message}; {}", Finding::UNREAD),
                },
            }),
            Trouble::Absent => {}
            // What keeps one feed away keeps all away, as a rule: one finding for the server.
            Trouble::Unanswered(message) => unanswered = unanswered.or(Some(message)),
        }
    }
    findings.extend(unanswered.map(|message| Finding {
        source: String::new(),
        object: String::new(),
        field: String::new(),
        message: format!(
            "the API server does not answer: {message}; {}",
            Finding::UNREAD_KEPT
        ),
    }));
    findings
}

fn object(name: &Name) -> String {
    match name {
        Name::Kind(kind) => kind.to_string(),
        Name::Secret(secret) => format!("{} {secret}", Kind::Secret),
    }
}

fn place(name: &Name, namespace: &str) -> String {
    match name {
        Name::Kind(Kind::Service | Kind::EndpointSlice | Kind::Node | Kind::Namespace) => {
            " in the whole cluster".to_owned()
        }
        _ => format!(" in namespace {namespace}"),
    }
}

/// An error and its causes; each is left out that the one before has said already.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> watcher::Error {
        let status = Status::failure("because", "Reason").with_code(code);
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn a_missing_right_is_named() {
        let name = Name::Kind(Kind::EndpointSlice);
        let Some(Trouble::Refused(message)) = Trouble::of(&refused(403), &name, "metallb-system")
        else {
            panic!("no refusal");
        };
        assert_eq!(
            message,
            "not allowed to list endpointslices.discovery.k8s.io in the whole cluster: give its \
             role the verb \"list\" (because)"
        );
        let name = Name::Secret("router".to_owned());
        let trouble = Trouble::of(&refused(403), &name, "metallb-system");
        let findings = findings([(&name, &trouble.unwrap(), true)].into_iter());
        assert_eq!(
            findings[0].to_string(),
            "Secret router: not allowed to list secrets in namespace metallb-system: give its role \
             the verb \"list\" (because); the last state stays in force"
        );
    }

    #[test]
    fn an_expired_list_is_no_trouble() {
        let name = Name::Kind(Kind::Service);
        assert_eq!(Trouble::of(&refused(410), &name, ""), None);
        let trouble = Trouble::of(&refused(503), &name, "").unwrap();
        assert!(!trouble.is_refusal());
    }
}
