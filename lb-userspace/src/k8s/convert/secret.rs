//! Secrets: the keys of the cluster, and passwords of BGP peers.

use k8s_openapi::api::core::v1::Secret;

use super::Problems;
use crate::model::cluster::ClusterKeys;
use crate::model::password::Password;

/// Name of the Secret that holds the cluster's keys.
const KEYS_NAME: &str = "torline";

/// What a Secret is good for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretPart {
    /// The keys of the cluster.
    Keys(ClusterKeys),
    /// A password.
    Password(Password),
    /// Nothing, for the reason given to a peer that names it.
    Useless(&'static str),
}

/// Converts a Secret. One that is nothing to us has no problems; a peer that names it has.
pub(super) fn convert(secret: &Secret, problems: &mut Problems) -> SecretPart {
    // As an API server does, `stringData` goes over `data`.
    let value = |key: &str| -> Option<&[u8]> {
        let text = secret.string_data.as_ref().and_then(|data| data.get(key));
        let bytes = || secret.data.as_ref().and_then(|data| data.get(key));
        text.map(|text| text.as_bytes())
            .or_else(|| bytes().map(|bytes| bytes.0.as_slice()))
    };
    if secret.metadata.name.as_deref() == Some(KEYS_NAME) {
        let mut key = |name: &str| {
            let key = value(name).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            if key.is_none() {
                problems.refuse(
                    format!("data.{name}"),
                    "want exactly 32 bytes, in base64: make them with `head -c 32 /dev/urandom | base64`",
                );
            }
            key.unwrap_or_default()
        };
        return SecretPart::Keys(ClusterKeys {
            flow_key: key("flow-key"),
            peer_key: key("peer-key"),
        });
    }
    if secret.type_.as_deref() != Some("kubernetes.io/basic-auth") {
        return SecretPart::Useless("secret type mismatch: want type kubernetes.io/basic-auth");
    }
    match value("password").map(std::str::from_utf8) {
        Some(Ok(password)) if !password.is_empty() => SecretPart::Password(Password::new(password)),
        Some(Err(_)) => SecretPart::Useless("the password in the secret is not UTF-8"),
        _ => SecretPart::Useless("password not specified in the secret: add the key password"),
    }
}
