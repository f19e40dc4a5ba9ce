//! Changes of objects in their source, on behalf of an operator.
//!
//! `directory` writes a file for each object, `cluster` custom resources. What is written is the same:
//! `object` has it. All that can be refused is refused before anything is written.

mod cluster;
mod directory;

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::convert::virtual_switch::MANAGED_BY;
use super::object::SYSTEM_NAMESPACE;
use crate::model::cluster::SWITCH_LABEL;
use crate::model::virtual_switch::Edit;

pub use cluster::ClusterEditor;
pub use directory::DirectoryEditor;

/// Why a source was not changed.
#[derive(thiserror::Error, Debug)]
pub enum EditError {
    /// A file of that name is somebody else's.
    #[error("{0} was not written by torline, and is not overwritten: change it by hand")]
    Foreign(PathBuf),
    /// The object is in a file of somebody else's.
    #[error("{0} is in a file that was not written by torline: change it there")]
    Elsewhere(String),
    /// The file system refuses.
    #[error("failed to write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The object cannot be written as YAML.
    #[error("failed to write {0} as YAML")]
    Yaml(String, #[source] serde_saphyr::ser::Error),
    /// The API server refuses.
    #[error("the API server refused {object}: {source}")]
    ApiServer {
        /// The object.
        object: String,
        /// The cause.
        source: Box<kube::Error>,
    },
    /// The API server does not answer in time.
    #[error("the API server did not answer about {0}")]
    Late(String),
}

/// Changes a source.
pub enum Editor {
    /// A directory of YAML files.
    Directory(DirectoryEditor),
    /// An API server.
    ApiServer(ClusterEditor),
}

/// An edit, and whether its object is there.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// The edit.
    pub edit: &'a Edit,
    /// The source has an object of that kind and name.
    pub exists: bool,
}

impl Editor {
    /// Whether edits could be made, as far as it can be told.
    ///
    /// # Errors
    ///
    /// An object is somebody else's.
    pub fn check(&self, edits: &[Planned<'_>]) -> Result<(), EditError> {
        match self {
            Self::Directory(editor) => edits.iter().try_for_each(|edit| editor.check(*edit)),
            Self::ApiServer(_) => Ok(()),
        }
    }

    /// Makes edits, one after the other. Blocks on the disk: call it where blocking is allowed.
    ///
    /// # Errors
    ///
    /// The first that could not be made; those before it are.
    pub async fn apply(&self, edits: &[Planned<'_>]) -> Result<(), EditError> {
        self.check(edits)?;
        for planned in edits {
            match self {
                Self::Directory(editor) => editor.apply(planned.edit)?,
                Self::ApiServer(editor) => editor.apply(planned.edit).await?,
            }
        }
        Ok(())
    }
}

/// Kind and name, for messages.
fn title(edit: &Edit) -> String {
    let (kind, name) = edit.object();
    format!("{kind} {name}")
}

/// The object of an edit with the fields that torline is answerable for; `null` where a field is to be as
/// if it were absent. Nothing for a deletion.
fn object(edit: &Edit) -> Option<Value> {
    let (kind, name) = edit.object();
    let managed = |labels: Value| {
        let mut labels = labels;
        labels[MANAGED_BY.0] = json!(MANAGED_BY.1);
        labels
    };
    let (version, labels, spec) = match edit {
        Edit::PutPeer {
            peer,
            ebgp_multi_hop,
            ..
        } => (
            "metallb.io/v1beta2",
            managed(json!({ SWITCH_LABEL: peer.switch })),
            json!({
                "myASN": peer.self_asn,
                "peerASN": peer.peer_asn,
                "peerAddress": peer.address.to_string(),
                "holdTime": peer.hold_time_seconds.map(|seconds| format!("{seconds}s")),
                "ebgpMultiHop": ebgp_multi_hop,
            }),
        ),
        Edit::PutAdvertisement {
            switch,
            peers,
            of_switch,
            ..
        } => {
            let selectors = json!([{ "matchLabels": { SWITCH_LABEL: switch } }]);
            (
                "metallb.io/v1beta1",
                managed(json!({ SWITCH_LABEL: switch })),
                json!({
                    "peers": peers,
                    "ipAddressPoolSelectors": of_switch.then_some(selectors),
                }),
            )
        }
        Edit::PutSwitch { switch, .. } => (
            "torline.io/v1alpha1",
            match switch.is_managed {
                true => managed(json!({})),
                false => json!({}),
            },
            json!({
                "ports": switch.ports,
                "enabledFor": switch.enabled_for.words().collect::<Vec<_>>(),
            }),
        ),
        Edit::DeletePeer { .. } | Edit::DeleteAdvertisement { .. } | Edit::DeleteSwitch { .. } => {
            return None;
        }
    };
    Some(json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": { "name": name, "namespace": SYSTEM_NAMESPACE, "labels": labels },
        "spec": spec,
    }))
}

/// Leaves out what is to be as if absent.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(name, field)| (name, without_nulls(field)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
