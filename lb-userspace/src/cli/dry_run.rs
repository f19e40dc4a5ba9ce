//! `torline run --dry-run`: what would be done, one thing per line.

use std::fmt::Write;

use super::print;
use crate::daemon::Rehearsal;
use crate::model::intent::RouteAttributes;
use crate::plan::step::Step;

/// Prints findings, map writes and routes.
pub(super) fn print_rehearsal(rehearsal: &Rehearsal) -> anyhow::Result<()> {
    print(&render(rehearsal))
}

fn render(rehearsal: &Rehearsal) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for finding in &rehearsal.findings {
        let _ = writeln!(text, "finding: {finding}");
    }
    for (name, service) in &rehearsal.intent.services {
        if let Some(error) = &service.allocation_error {
            let _ = writeln!(text, "service {name}: {error}");
        }
    }
    for (name, reason) in &rehearsal.plan.refused {
        let _ = writeln!(text, "refused: {name}: {reason}");
    }
    for steps in rehearsal.plan.steps.chunk_by(follows) {
        let _ = match steps {
            [
                first @ Step::SetSlot { index, .. },
                ..,
                last @ Step::SetSlot { index: end, .. },
            ] => {
                writeln!(
                    text,
                    "write: slots {index} to {end}, {} writes: {first}, .., {last}",
                    steps.len()
                )
            }
            _ => steps
                .iter()
                .try_for_each(|step| writeln!(text, "write: {step}")),
        };
    }
    for (peer, session) in &*rehearsal.intent.sessions {
        let config = &session.config;
        let _ = writeln!(
            text,
            "session: {peer}, {} port {}, from AS {}",
            config.peer_address, config.peer_port, config.my_asn
        );
        for (prefix, attributes) in &session.routes {
            let _ = writeln!(text, "route: {prefix} to {peer}{}", describe(attributes));
        }
    }
    text
}

/// Whether two steps write neighbouring slots: a table is a thousand of them, and shown as one line.
fn follows(one: &Step, next: &Step) -> bool {
    match (one, next) {
        (
            Step::SetSlot { index, .. },
            Step::SetSlot {
                index: following, ..
            },
        ) => index.checked_add(1) == Some(*following),
        _ => false,
    }
}

fn describe(attributes: &RouteAttributes) -> String {
    let mut text = String::new();
    if let Some(local_pref) = attributes.local_pref {
        let _ = write!(text, ", local-pref {local_pref}");
    }
    for (name, value) in [
        ("med", attributes.med.map(u64::from)),
        (
            "prepend",
            Some(u64::from(attributes.prepend)).filter(|count| *count > 0),
        ),
        ("bandwidth", attributes.link_bandwidth),
    ] {
        if let Some(value) = value {
            let _ = write!(text, ", {name} {value}");
        }
    }
    for community in &attributes.communities {
        let _ = write!(text, ", community {community}");
    }
    text
}

#[cfg(test)]
mod tests {
    use lb_common::maps::Slot;

    use super::*;
    use crate::plan::layout::Plan;

    #[test]
    fn attributes_are_written_as_routers_write_them() {
        use crate::model::cluster::Community;

        let attributes = RouteAttributes {
            local_pref: Some(200),
            communities: [
                Community::Standard(64512 << 16 | 100),
                Community::Large(64512, 1, 2),
            ]
            .into(),
            ..RouteAttributes::default()
        };
        assert_eq!(
            describe(&attributes),
            ", local-pref 200, community 64512:100, community 64512:1:2"
        );
    }

    #[test]
    fn a_table_is_one_line() {
        let slot = |index, owner| Step::SetSlot {
            index,
            slot: Slot::new([owner, 0, 0, 0]),
        };
        let rehearsal = Rehearsal {
            intent: crate::model::intent::Intent::default(),
            plan: Plan {
                steps: vec![slot(4, 1), slot(5, 2), slot(6, 1), slot(9, 2)],
                refused: Vec::new(),
            },
            findings: std::collections::BTreeSet::new(),
        };
        assert_eq!(
            render(&rehearsal),
            "write: slots 4 to 6, 3 writes: slot 4: [1, 0, 0, 0], .., slot 6: [1, 0, 0, 0]\n\
             write: slot 9: [2, 0, 0, 0]\n"
        );
    }
}
