//! The definitions are those in `deploy/`, and an API server takes them.

use std::path::Path;

use super::*;

/// Calls `visit` for a schema and all below it, with the path of each.
fn walk(schema: &JSONSchemaProps, path: &str, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(items, &format!("{path}[]"), visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(values, &format!("{path}{{}}"), visit);
    }
}

fn visit_all(mut visit: impl FnMut(&str, &JSONSchemaProps)) {
    for definition in definitions().unwrap() {
        for version in &definition.spec.versions {
            let schema = version.schema.as_ref().unwrap();
            let root = schema.open_api_v3_schema.as_ref().unwrap();
            let path = format!("{} {}", definition.spec.names.kind, version.name);
            walk(root, &path, &mut visit);
        }
    }
}

#[test]
fn deploy_holds_what_the_types_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    let manifests = manifests().unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        for manifest in &manifests {
            std::fs::write(directory.join(&manifest.file), &manifest.text).unwrap();
        }
    }
    for manifest in &manifests {
        let written = std::fs::read_to_string(directory.join(&manifest.file)).unwrap_or_default();
        assert!(
            written == manifest.text,
            "{} differs from the types: run `BLESS=1 cargo test -p lb-userspace deploy_holds`",
            manifest.file
        );
    }
    assert_eq!(manifests.len(), 11);
}

#[test]
fn every_field_has_a_description() {
    visit_all(|path, schema| {
        // What stands in a list or map is described with it.
        let is_element = path.ends_with("[]") || path.ends_with("{}");
        assert!(is_element || schema.description.is_some(), "{path}");
    });
}

#[test]
fn schemas_are_structural() {
    visit_all(|path, schema| {
        assert!(schema.type_.is_some(), "{path} has no type");
        assert_eq!(schema.nullable, None, "{path}");
        for part in [&schema.any_of, &schema.one_of, &schema.all_of] {
            assert_eq!(*part, None, "{path}");
        }
        let known = [None, Some("int32"), Some("int64"), Some("date-time")];
        assert!(known.contains(&schema.format.as_deref()), "{path}");
        let forbidden = Some(JSONSchemaPropsOrBool::Bool(false));
        assert_ne!(schema.additional_properties, forbidden, "{path}");
    });
}

/// The API server reckons with the longest value that a schema allows.
#[test]
fn what_a_rule_reads_is_bounded() {
    visit_all(|path, schema| {
        if schema.x_kubernetes_validations.is_none() {
            return;
        }
        walk(schema, path, &mut |path, below| {
            let is_selector = path.contains("elector");
            let is_open = match below.type_.as_deref() {
                Some("string") => below.max_length.is_none() && below.enum_.is_none(),
                Some("array") => below.max_items.is_none(),
                _ => false,
            };
            assert!(is_selector || !is_open, "{path} is read by a rule");
        });
    });
}

#[test]
fn the_older_version_of_a_peer_is_a_subset_of_the_stored_one() {
    let peers = definitions().unwrap().swap_remove(2);
    let fields = |name: &str| {
        let versions = peers.spec.versions.iter();
        let version = versions.into_iter().find(|v| v.name == name).unwrap();
        let schema = version.schema.as_ref().unwrap();
        let root = schema.open_api_v3_schema.as_ref().unwrap();
        root.properties.as_ref().unwrap()["spec"]
            .properties
            .clone()
            .unwrap()
    };
    let (older, stored) = (fields("v1beta1"), fields("v1beta2"));
    for (name, schema) in &older {
        assert_eq!(schema.type_, stored[name].type_, "{name}");
    }
    let storage: Vec<_> = peers
        .spec
        .versions
        .iter()
        .map(|v| (v.name.as_str(), v.storage))
        .collect();
    assert_eq!(storage, [("v1beta2", true), ("v1beta1", false)]);
}

#[test]
fn defaults_are_those_of_metallb() {
    let mut defaults = Vec::new();
    visit_all(|path, schema| {
        if let Some(default) = &schema.default {
            defaults.push(format!("{path} = {}", default.0));
        }
    });
    assert_eq!(
        defaults,
        [
            "BGPAdvertisement v1beta1.spec.aggregationLength = 32",
            "BGPAdvertisement v1beta1.spec.aggregationLengthV6 = 128",
            "BGPPeer v1beta2.spec.disableMP = false",
            "BGPPeer v1beta2.spec.dualStackAddressFamily = false",
            "BGPPeer v1beta2.spec.peerPort = 179",
            "IPAddressPool v1beta1.spec.autoAssign = true",
            "IPAddressPool v1beta1.spec.avoidBuggyIPs = false",
        ]
    );
}
