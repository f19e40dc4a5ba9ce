//! The Secret `torline` with the keys of the cluster.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::{WriteError, answer};

/// Name of the Secret.
const NAME: &str = "torline";

/// Makes the Secret unless there is one; whether it did.
pub(super) async fn create(
    client: &Client,
    namespace: &str,
    flow_key: [u8; 32],
    peer_key: [u8; 32],
) -> Result<bool, WriteError> {
    let keys = [("flow-key", flow_key), ("peer-key", peer_key)];
    let data = keys.map(|(name, key)| (name.to_owned(), ByteString(key.to_vec())));
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(BTreeMap::from([("app".to_owned(), "metallb".to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(data.into()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    match answer(
        "create secrets",
        api.create(&PostParams::default(), &secret),
    )
    .await
    {
        Ok(_) => Ok(true),
        // One with other contents is somebody's work: a finding says what is wrong with it.
        Err(error) if error.is_code(409) => Ok(false),
        Err(error) => Err(error),
    }
}
