//! `torline crds`: the CustomResourceDefinitions of MetalLB's kinds.

use super::print;
use crate::k8s::crd;

/// Prints them as one YAML stream, for `kubectl apply -f -`.
pub(super) fn show() -> anyhow::Result<()> {
    let manifests = crd::manifests()?;
    let documents: Vec<_> = manifests
        .into_iter()
        .map(|manifest| manifest.text)
        .collect();
    print(&documents.join("---\n"))
}
