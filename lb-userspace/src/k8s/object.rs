//! The API objects that Torline reads, and how they are told apart.

use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::api::{
    BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec, IpAddressPoolSpec,
    L2AdvertisementSpec, Resource, VirtualSwitchSpec,
};
use super::tree::{Tree, typed};

/// A kind that Torline reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Node.
    Node,
    /// v1 Namespace.
    Namespace,
    /// v1 Secret.
    Secret,
    /// metallb.io/v1beta1 IPAddressPool.
    IpAddressPool,
    /// metallb.io/v1beta2 BGPPeer, or v1beta1.
    BgpPeer,
    /// metallb.io/v1beta1 BGPAdvertisement.
    BgpAdvertisement,
    /// metallb.io/v1beta1 L2Advertisement.
    L2Advertisement,
    /// metallb.io/v1beta1 Community.
    Community,
    /// metallb.io/v1beta1 BFDProfile.
    BfdProfile,
    /// torline.io/v1alpha1 VirtualSwitch.
    VirtualSwitch,
}

/// Why an `apiVersion` and `kind` name none of the kinds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UnknownKind {
    /// It is none of Torline's business.
    Foreign,
    /// It looks like one of them; says what to do.
    Refused(String),
}

/// Namespace of MetalLB's objects, and of Secrets, where the object names none.
pub const SYSTEM_NAMESPACE: &str = "metallb-system";

impl Kind {
    const ALL: [(Self, &'static str, &'static [&'static str]); 12] = [
        (Self::Service, "Service", &["v1"]),
        (
            Self::EndpointSlice,
            "EndpointSlice",
            &["discovery.k8s.io/v1"],
        ),
        (Self::Node, "Node", &["v1"]),
        (Self::Namespace, "Namespace", &["v1"]),
        (Self::Secret, "Secret", &["v1"]),
        (
            Self::IpAddressPool,
            "IPAddressPool",
            &["metallb.io/v1beta1"],
        ),
        (
            Self::BgpPeer,
            "BGPPeer",
            &["metallb.io/v1beta2", "metallb.io/v1beta1"],
        ),
        (
            Self::BgpAdvertisement,
            "BGPAdvertisement",
            &["metallb.io/v1beta1"],
        ),
        (
            Self::L2Advertisement,
            "L2Advertisement",
            &["metallb.io/v1beta1"],
        ),
        (Self::Community, "Community", &["metallb.io/v1beta1"]),
        (Self::BfdProfile, "BFDProfile", &["metallb.io/v1beta1"]),
        (
            Self::VirtualSwitch,
            "VirtualSwitch",
            &["torline.io/v1alpha1"],
        ),
    ];

    /// The kind that `apiVersion` and `kind` name.
    ///
    /// # Errors
    ///
    /// [`UnknownKind`] if it is none of them.
    pub fn of(api_version: &str, kind: &str) -> Result<Self, UnknownKind> {
        const STATUS_KINDS: [&str; 3] =
            ["ServiceL2Status", "ServiceBGPStatus", "ConfigurationState"];
        let group = |version: &str| {
            version
                .rsplit_once('/')
                .map_or("", |(group, _)| group)
                .to_owned()
        };
        let known = Self::ALL.iter().find(|(_, name, versions)| {
            *name == kind && versions.iter().any(|v| group(v) == group(api_version))
        });
        match known {
            Some((kind, _, versions)) if versions.contains(&api_version) => Ok(*kind),
            Some((_, name, versions)) => Err(UnknownKind::Refused(format!(
                "{name} is read as {}",
                versions.join(" or ")
            ))),
            None if group(api_version) == "metallb.io" && !STATUS_KINDS.contains(&kind) => Err(
                UnknownKind::Refused("metallb.io has no such kind".to_owned()),
            ),
            None if group(api_version) == "torline.io" => Err(UnknownKind::Refused(
                "torline.io has no such kind".to_owned(),
            )),
            None => Err(UnknownKind::Foreign),
        }
    }

    /// The namespace of an object that names none. Empty where names alone tell objects apart:
    /// cluster-wide kinds, and MetalLB's, which all live in one namespace.
    const fn default_namespace(self) -> &'static str {
        match self {
            Self::Service | Self::EndpointSlice => "default",
            Self::Secret => SYSTEM_NAMESPACE,
            _ => "",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(kind, ..)| kind == self);
        f.write_str(name.map_or("", |(_, name, _)| name))
    }
}

/// What tells one object from all others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for kinds that have none and for MetalLB's.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of an object with this metadata.
    pub fn new(kind: Kind, namespace: Option<&str>, name: &str) -> Self {
        let namespace = match kind.default_namespace() {
            "" => "",
            default => namespace.filter(|ns| !ns.is_empty()).unwrap_or(default),
        };
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// An API object, typed.
#[derive(Clone, PartialEq, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for the length of one conversion"
)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// An EndpointSlice.
    EndpointSlice(EndpointSlice),
    /// A Node.
    Node(Node),
    /// A Namespace.
    Namespace(Namespace),
    /// A Secret.
    Secret(Secret),
    /// An IPAddressPool.
    IpAddressPool(Resource<IpAddressPoolSpec>),
    /// A BGPPeer.
    BgpPeer(Resource<BgpPeerSpec>),
    /// A BGPAdvertisement.
    BgpAdvertisement(Resource<BgpAdvertisementSpec>),
    /// An L2Advertisement.
    L2Advertisement(Resource<L2AdvertisementSpec>),
    /// A Community.
    Community(Resource<CommunitySpec>),
    /// A BFDProfile.
    BfdProfile(Resource<BfdProfileSpec>),
    /// A VirtualSwitch.
    VirtualSwitch(Resource<VirtualSwitchSpec>),
}

impl Object {
    /// Reads an object of the given kind.
    ///
    /// # Errors
    ///
    /// The first field that does not fit the kind.
    pub fn read(kind: Kind, tree: &Tree) -> Result<Self, typed::TypeError> {
        Ok(match kind {
            Kind::Service => Self::Service(typed::read(tree)?),
            Kind::EndpointSlice => Self::EndpointSlice(typed::read(tree)?),
            Kind::Node => Self::Node(typed::read(tree)?),
            Kind::Namespace => Self::Namespace(typed::read(tree)?),
            Kind::Secret => Self::Secret(typed::read(tree)?),
            Kind::IpAddressPool => Self::IpAddressPool(typed::read(tree)?),
            Kind::BgpPeer => Self::BgpPeer(typed::read(tree)?),
            Kind::BgpAdvertisement => Self::BgpAdvertisement(typed::read(tree)?),
            Kind::L2Advertisement => Self::L2Advertisement(typed::read(tree)?),
            Kind::Community => Self::Community(typed::read(tree)?),
            Kind::BfdProfile => Self::BfdProfile(typed::read(tree)?),
            Kind::VirtualSwitch => Self::VirtualSwitch(typed::read(tree)?),
        })
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Node(_) => Kind::Node,
            Self::Namespace(_) => Kind::Namespace,
            Self::Secret(_) => Kind::Secret,
            Self::IpAddressPool(_) => Kind::IpAddressPool,
            Self::BgpPeer(_) => Kind::BgpPeer,
            Self::BgpAdvertisement(_) => Kind::BgpAdvertisement,
            Self::L2Advertisement(_) => Kind::L2Advertisement,
            Self::Community(_) => Kind::Community,
            Self::BfdProfile(_) => Kind::BfdProfile,
            Self::VirtualSwitch(_) => Kind::VirtualSwitch,
        }
    }

    /// Its metadata.
    pub const fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::IpAddressPool(object) => &object.metadata,
            Self::BgpPeer(object) => &object.metadata,
            Self::BgpAdvertisement(object) => &object.metadata,
            Self::L2Advertisement(object) => &object.metadata,
            Self::Community(object) => &object.metadata,
            Self::BfdProfile(object) => &object.metadata,
            Self::VirtualSwitch(object) => &object.metadata,
        }
    }

    /// Its key.
    pub fn key(&self) -> Key {
        let metadata = self.metadata();
        Key::new(
            self.kind(),
            metadata.namespace.as_deref(),
            metadata.name.as_deref().unwrap_or_default(),
        )
    }
}
