//! VirtualSwitches, and the label that says what belongs to one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Problems;
use crate::k8s::api::VirtualSwitchSpec;
use crate::model::cluster::{Labels, SWITCH_LABEL};
use crate::model::virtual_switch::{Purposes, SwitchPort, VirtualSwitch};

/// Label of objects that torline makes and may take away.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "torline");

/// The switch that an object with these labels belongs to.
pub(super) fn of(labels: &Labels) -> Option<&String> {
    labels.get(SWITCH_LABEL).filter(|name| !name.is_empty())
}

/// Converts a VirtualSwitch.
pub(super) fn convert(
    spec: &VirtualSwitchSpec,
    metadata: &ObjectMeta,
    problems: &mut Problems,
) -> VirtualSwitch {
    if spec.ports.is_empty() {
        problems.refuse("spec.ports", "a switch has at least one port");
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let is_alias = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
        if port.alias.is_empty() || port.alias.len() > 63 || !port.alias.chars().all(is_alias) {
            problems.refuse(
                format!("spec.ports[{index}].alias"),
                "write what the device calls the port, like Port2",
            );
        }
        let is_name = |c: char| c.is_ascii_graphic() && c != '/';
        let interface = &port.interface;
        if interface.is_empty() || interface.len() > 15 || !interface.chars().all(is_name) {
            problems.refuse(
                format!("spec.ports[{index}].interface"),
                "write the name of an interface, like eth1",
            );
        }
    }
    let aliases = spec.ports.iter().map(|port| port.alias.to_lowercase());
    problems.refuse_duplicates("spec.ports", "alias", aliases);
    let interfaces = spec.ports.iter().map(|port| &port.interface);
    problems.refuse_duplicates("spec.ports", "interface", interfaces);
    let ports = spec.ports.iter().map(|port| SwitchPort {
        alias: port.alias.clone(),
        interface: port.interface.clone(),
    });
    let labels = metadata.labels.as_ref();
    let manager = labels.and_then(|labels| labels.get(MANAGED_BY.0));
    VirtualSwitch {
        ports: ports.collect(),
        enabled_for: purposes(&spec.enabled_for, problems),
        is_managed: manager.is_some_and(|manager| manager == MANAGED_BY.1),
    }
}

fn purposes(words: &[String], problems: &mut Problems) -> Purposes {
    let mut purposes = Purposes::default();
    for (index, word) in words.iter().enumerate() {
        match word.as_str() {
            "compute" => purposes.compute = true,
            "storage" => purposes.storage = true,
            "mgmt" => purposes.management = true,
            other => problems.refuse(
                format!("spec.enabledFor[{index}]"),
                format!("\"{other}\": want compute, storage or mgmt"),
            ),
        }
    }
    purposes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::api::Port;

    fn port(alias: &str, interface: &str) -> Port {
        Port {
            alias: alias.to_owned(),
            interface: interface.to_owned(),
        }
    }

    fn run(ports: Vec<Port>, enabled_for: &[&str]) -> (VirtualSwitch, Vec<String>) {
        let mut problems = Problems::default();
        let spec = VirtualSwitchSpec {
            ports,
            enabled_for: enabled_for.iter().map(|word| (*word).to_owned()).collect(),
        };
        let switch = convert(&spec, &ObjectMeta::default(), &mut problems);
        let fields = problems.into_vec().into_iter().map(|p| p.field);
        (switch, fields.collect())
    }

    #[test]
    fn a_switch_has_its_ports_in_order_and_what_it_is_for() {
        let ports = vec![port("Port4", "eth4"), port("Port3", "eth3")];
        let (switch, problems) = run(ports, &["storage", "mgmt"]);
        assert_eq!(problems, [""; 0]);
        let aliases: Vec<_> = switch.ports.iter().map(|p| p.alias.as_str()).collect();
        assert_eq!(aliases, ["Port4", "Port3"]);
        assert_eq!(
            switch.enabled_for.words().collect::<Vec<_>>(),
            ["storage", "mgmt"]
        );
    }

    #[test]
    fn what_cannot_be_a_switch_is_refused_with_its_field() {
        assert_eq!(run(Vec::new(), &[]).1, ["spec.ports"]);
        assert_eq!(
            run(vec![port("", "eth1")], &["everything"]).1,
            ["spec.ports[0].alias", "spec.enabledFor[0]"]
        );
        assert_eq!(
            run(vec![port("Port1", "a/b")], &[]).1,
            ["spec.ports[0].interface"]
        );
        assert_eq!(
            run(vec![port("Port1", "eth1"), port("port1", "eth1")], &[]).1,
            ["spec.ports[1]", "spec.ports[1]"]
        );
    }
}
