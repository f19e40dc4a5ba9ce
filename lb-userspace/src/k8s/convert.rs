//! API object to model, with every problem of the object and not just the
//! first.
//!
//! Each kind has its file. What several objects decide together (aliases, passwords, the families
//! of a Service that does not say) is left open in [`Part`] for the index to settle.
//!
//! A problem either *refuses* the object, and its last good version stays, or is a *note*: the
//! object is taken and the field has no effect.

pub mod advertisement;
pub mod annotation;
mod bfd_profile;
mod community;
mod duration;
mod endpoints;
pub mod families;
mod node;
mod peer;
mod pool;
mod secret;
mod selector;
mod service;
pub mod virtual_switch;

use std::collections::BTreeSet;
use std::fmt::Display;

use super::object::Object;
use crate::model::bfd::BfdProfile;
use crate::model::cluster::{Community, Endpoint, L2Advertisement, Labels, Node, Pool};
use crate::model::name::ObjectName;
use crate::model::virtual_switch::VirtualSwitch;

pub use advertisement::OpenBgpAdvertisement;
pub use community::well_known;
pub use peer::OpenPeer;
pub use pool::find_overlap;
pub use secret::SecretPart;
pub use service::OpenService;

/// What the conversion has to know beside the object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Services of this `spec.loadBalancerClass` are ours; without one, those that name none.
    pub load_balancer_class: Option<String>,
}

/// What an object contributes to the cluster.
#[derive(Clone, PartialEq, Debug)]
pub enum Part {
    /// A Service.
    Service(Box<OpenService>),
    /// Endpoints of a Service; `None` if the slice names no Service.
    Endpoints(Option<ObjectName>, Vec<Endpoint>),
    /// A Node.
    Node(Node),
    /// Labels of a namespace.
    Namespace(Labels),
    /// A Secret.
    Secret(SecretPart),
    /// An IPAddressPool.
    Pool(Pool),
    /// A BGPPeer.
    Peer(Box<OpenPeer>),
    /// A BGPAdvertisement.
    BgpAdvertisement(OpenBgpAdvertisement),
    /// An L2Advertisement.
    L2Advertisement(L2Advertisement),
    /// Aliases for communities.
    Communities(Vec<(String, Community)>),
    /// A BFDProfile.
    BfdProfile(BfdProfile),
    /// A VirtualSwitch.
    VirtualSwitch(VirtualSwitch),
}

/// Something wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Path of the field.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// The problems of one object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Problems {
    found: Vec<Problem>,
    refused: bool,
}

impl Problems {
    /// The object cannot be used.
    pub fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.refused = true;
        self.note(field, message);
    }

    /// The field has no effect; the object can be used.
    pub fn note(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.found.push(Problem {
            field: field.into(),
            message: message.into(),
        });
    }

    /// Refuses values that a list holds twice.
    pub fn refuse_duplicates<T: Ord + Display>(
        &mut self,
        field: &str,
        thing: &str,
        values: impl IntoIterator<Item = T>,
    ) {
        let mut seen = BTreeSet::new();
        for (index, value) in values.into_iter().enumerate() {
            let message = format!("duplicate definition of {thing} \"{value}\"");
            if !seen.insert(value) {
                self.refuse(format!("{field}[{index}]"), message);
            }
        }
    }

    /// The problems, in the order they were found.
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

/// Converts an object; `None` if a problem refuses it.
pub fn convert(object: &Object, settings: &Settings) -> (Option<Part>, Vec<Problem>) {
    let mut problems = Problems::default();
    let empty = Labels::new();
    let annotations = object.metadata().annotations.as_ref().unwrap_or(&empty);
    annotation::check(object.kind(), annotations, &mut problems);
    let part =
        match object {
            Object::Service(service) => Part::Service(Box::new(service::convert(
                service,
                annotations,
                settings,
                &mut problems,
            ))),
            Object::EndpointSlice(slice) => endpoints::convert(slice, &mut problems),
            Object::Node(node) => Part::Node(node::convert(node, annotations, &mut problems)),
            Object::Namespace(namespace) => {
                Part::Namespace(namespace.metadata.labels.clone().unwrap_or_default())
            }
            Object::Secret(secret) => Part::Secret(secret::convert(secret, &mut problems)),
            Object::IpAddressPool(pool) => Part::Pool(pool::convert(pool, &mut problems)),
            Object::BgpPeer(peer) => {
                Part::Peer(Box::new(peer::convert(peer, annotations, &mut problems)))
            }
            Object::BgpAdvertisement(advertisement) => Part::BgpAdvertisement(
                advertisement::convert_bgp(&advertisement.spec, annotations, &mut problems),
            ),
            Object::L2Advertisement(advertisement) => Part::L2Advertisement(
                advertisement::convert_l2(&advertisement.spec, annotations, &mut problems),
            ),
            Object::Community(community) => {
                Part::Communities(community::convert(&community.spec, &mut problems))
            }
            Object::BfdProfile(profile) => {
                Part::BfdProfile(bfd_profile::convert(&profile.spec, &mut problems))
            }
            Object::VirtualSwitch(switch) => Part::VirtualSwitch(virtual_switch::convert(
                &switch.spec,
                &switch.metadata,
                &mut problems,
            )),
        };
    ((!problems.refused).then_some(part), problems.into_vec())
}

#[cfg(test)]
mod tests;
