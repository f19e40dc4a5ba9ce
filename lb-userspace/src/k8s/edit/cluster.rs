//! Edits of an API server's objects.

use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{EditError, object, title, without_nulls};
use crate::k8s::api;
use crate::model::virtual_switch::Edit;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Changes objects of an API server.
pub struct ClusterEditor {
    client: Client,
    namespace: String,
}

impl ClusterEditor {
    /// With MetalLB's objects in `namespace`.
    pub(in crate::k8s) fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }

    pub(super) async fn apply(&self, edit: &Edit) -> Result<(), EditError> {
        let done = match object(edit) {
            Some(object) => timeout(ANSWER, self.put(edit, object)).await,
            None => timeout(ANSWER, self.delete(edit)).await,
        };
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(EditError::ApiServer {
                object: title(edit),
                source: Box::new(source),
            }),
            Err(_) => Err(EditError::Late(title(edit))),
        }
    }

    /// Changes the fields of an object that is there, and leaves all others; or makes it.
    async fn put(&self, edit: &Edit, mut object: Value) -> Result<(), Error> {
        object["metadata"]["namespace"] = json!(self.namespace);
        let (_, name) = edit.object();
        let api = self.api(edit);
        let patch = Patch::Merge(&object);
        match api.patch(name, &PatchParams::default(), &patch).await {
            Err(Error::Api(status)) if status.code == 404 => {
                let object = serde_json::from_value(without_nulls(object));
                let object = object.map_err(Error::SerdeError)?;
                api.create(&PostParams::default(), &object).await.map(drop)
            }
            patched => patched.map(drop),
        }
    }

    async fn delete(&self, edit: &Edit) -> Result<(), Error> {
        let (_, name) = edit.object();
        let deleted = self.api(edit).delete(name, &DeleteParams::default()).await;
        match deleted {
            Err(Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    fn api(&self, edit: &Edit) -> Api<DynamicObject> {
        let resource = match edit {
            Edit::PutPeer { .. } | Edit::DeletePeer { .. } => {
                ApiResource::erase::<api::BgpPeer>(&())
            }
            Edit::PutAdvertisement { .. } | Edit::DeleteAdvertisement { .. } => {
                ApiResource::erase::<api::BgpAdvertisement>(&())
            }
            Edit::PutSwitch { .. } | Edit::DeleteSwitch { .. } => {
                ApiResource::erase::<api::VirtualSwitch>(&())
            }
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }
}
