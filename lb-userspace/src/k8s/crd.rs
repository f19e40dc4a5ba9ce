//! The CustomResourceDefinitions of MetalLB's kinds and of ours, made from
//! [`super::api`].
//!
//! What the Rust types cannot say the way Kubernetes wants it is set right here: formats that OpenAPI
//! does not have, titles, `null` as a value, and defaults that only say what absence says anyway.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use kube::core::crd::{MergeError, merge_crds};
use serde_json::Value;

use super::api::{
    BfdProfile, BgpAdvertisement, BgpPeer, BgpPeerV1beta1, BgpSessionState, Community,
    ConfigurationState, IpAddressPool, L2Advertisement, ServiceBgpStatus, ServiceL2Status,
    VirtualSwitch,
};

/// A definition as it is written into a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Name of the file, `metallb.io_bgppeers.yaml`.
    pub file: String,
    /// One YAML document.
    pub text: String,
}

/// Why a definition cannot be made; a mistake in [`super::api`].
#[derive(thiserror::Error, Debug)]
pub enum DefinitionError {
    /// The versions of a kind disagree.
    #[error("failed to merge the versions of a kind")]
    Merge(#[source] MergeError),
    /// It is no JSON.
    #[error("failed to write a definition as JSON")]
    Value(#[source] serde_json::Error),
    /// It cannot be written.
    #[error("failed to write a definition as YAML")]
    Write(#[source] serde_saphyr::ser::Error),
}

/// All definitions, sorted by name.
///
/// # Errors
///
/// The versions of a kind do not belong together.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, DefinitionError> {
    let mut peers = merge_crds(vec![BgpPeerV1beta1::crd(), BgpPeer::crd()], "v1beta2")
        .map_err(DefinitionError::Merge)?;
    // Said, so that a definition of MetalLB's, which converts by a webhook, is changed by it.
    peers.spec.conversion = Some(CustomResourceConversion {
        strategy: "None".to_owned(),
        webhook: None,
    });
    let mut definitions = vec![
        BfdProfile::crd(),
        BgpAdvertisement::crd(),
        peers,
        BgpSessionState::crd(),
        Community::crd(),
        ConfigurationState::crd(),
        IpAddressPool::crd(),
        L2Advertisement::crd(),
        ServiceBgpStatus::crd(),
        ServiceL2Status::crd(),
        VirtualSwitch::crd(),
    ];
    definitions.iter_mut().for_each(finish);
    Ok(definitions)
}

/// The definitions as text, sorted by name.
///
/// # Errors
///
/// As [`definitions`].
pub fn manifests() -> Result<Vec<Manifest>, DefinitionError> {
    let manifest = |definition: CustomResourceDefinition| {
        let mut document = serde_json::to_value(&definition).map_err(DefinitionError::Value)?;
        if let Some(conversion) = document.pointer_mut("/spec/conversion") {
            // Said as well: `kubectl apply` removes nothing that it is not told to.
            conversion["webhook"] = Value::Null;
        }
        let text = serde_saphyr::to_string(&document).map_err(DefinitionError::Write)?;
        let names = &definition.spec.names;
        Ok(Manifest {
            file: format!("{}_{}.yaml", definition.spec.group, names.plural),
            text,
        })
    };
    definitions()?.into_iter().map(manifest).collect()
}

fn finish(definition: &mut CustomResourceDefinition) {
    definition.spec.names.list_kind = Some(format!("{}List", definition.spec.names.kind));
    let versions = definition.spec.versions.iter_mut();
    for version in versions.filter_map(|version| version.schema.as_mut()) {
        let Some(root) = version.open_api_v3_schema.as_mut() else {
            continue;
        };
        // MetalLB asks for a `spec` where something in it is required, and nowhere else.
        let requires_spec = definition.spec.names.kind == "IPAddressPool";
        root.required = requires_spec.then(|| vec!["spec".to_owned()]);
        normalize(root);
    }
}

/// Brings a schema and all below it into the form described above.
fn normalize(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.title = None;
    // Absence says the same, and an object shows what was written into it.
    if schema
        .default
        .as_ref()
        .is_some_and(|default| !default.0.is_boolean() && default.0.as_u64().is_none_or(|n| n == 0))
    {
        schema.default = None;
    }
    match schema.format.as_deref() {
        Some("uint32") => {
            let fits = schema
                .maximum
                .is_some_and(|most| most <= f64::from(i32::MAX));
            schema.format = Some(if fits { "int32" } else { "int64" }.to_owned());
            schema.maximum = schema.maximum.or(Some(f64::from(u32::MAX)));
        }
        Some("uint8" | "uint16") => schema.format = Some("int32".to_owned()),
        _ => {}
    }
    let properties = schema
        .properties
        .iter_mut()
        .flat_map(|map| map.values_mut());
    properties.for_each(normalize);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => normalize(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(normalize),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        normalize(values);
    }
}

#[cfg(test)]
mod tests;
