//! Who the agent is, and what it may do.

use anyhow::{Context, Result, ensure};
use axum::http::Request;
use harness::wait;
use k8s_openapi::api::authentication::v1::TokenRequest;
use kube::config::{AuthInfo, Kubeconfig};
use serde_json::{Value, json};

use crate::bench::{Bench, LIMIT};
use crate::objects::SYSTEM;

/// The agent's account and roles, as they are deployed.
const DEPLOYED: &str = include_str!("../../deploy/base/rbac.yaml");

/// Name of the agent's ServiceAccount.
const ACCOUNT: &str = "speaker";

/// A right: `list` of `services`, `patch` of `services/status`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    pub(crate) verb: &'static str,
    /// With the subresource.
    pub(crate) resource: &'static str,
    pub(crate) group: &'static str,
    /// Whether it is one for all namespaces.
    pub(crate) is_cluster_wide: bool,
}

impl Bench {
    /// Gives the agent's account what `deploy/base` gives it.
    pub(crate) fn grant(&self) -> Result<()> {
        for object in deployed()? {
            self.patch(&object, None)?;
        }
        Ok(())
    }

    /// The same kubeconfig with a token of the agent's account.
    pub(crate) fn as_agent(&self, mut kubeconfig: Kubeconfig) -> Result<Kubeconfig> {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        });
        let path = format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/{ACCOUNT}/token");
        let request = serde_json::to_vec(&body)?;
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(request)?;
        let token: TokenRequest = self.runtime.block_on(self.client.request(request))?;
        let token = token.status.and_then(|status| status.token);
        let token = token.context("no token")?;
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(AuthInfo {
                token: Some(token.clone().into()),
                ..AuthInfo::default()
            });
        }
        Ok(kubeconfig)
    }

    /// Takes one right away, until [`Bench::permit`].
    pub(crate) fn refuse(&mut self, right: &Right) -> Result<()> {
        if let Some(double) = &self.double {
            double.refuse(right.verb, right.resource);
            return Ok(());
        }
        for mut object in deployed()? {
            if let Some(rules) = object["rules"].as_array() {
                object["rules"] = rules.iter().flat_map(|rule| without(rule, right)).collect();
                self.patch(&object, None)?;
            }
        }
        self.wait_for_right(right, false)
    }

    /// Gives it back.
    pub(crate) fn permit(&mut self, right: &Right) -> Result<()> {
        if let Some(double) = &self.double {
            double.permit(right.verb, right.resource);
            return Ok(());
        }
        self.grant()?;
        self.wait_for_right(right, true)
    }

    /// Waits until the server goes by the roles as they are now.
    fn wait_for_right(&self, right: &Right, wanted: bool) -> Result<()> {
        let (resource, subresource) = right
            .resource
            .split_once('/')
            .unwrap_or((right.resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": format!("system:serviceaccount:{SYSTEM}:{ACCOUNT}"),
                "resourceAttributes": {
                    "namespace": if right.is_cluster_wide { "" } else { SYSTEM },
                    "verb": right.verb,
                    "group": right.group,
                    "resource": resource,
                    "subresource": subresource,
                    "name": if resource == "leases" { "torline" } else { "" },
                },
            },
        });
        wait::until("the roles", LIMIT, || {
            let body = serde_json::to_vec(&review)?;
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let request = Request::post(path)
                .header("content-type", "application/json")
                .body(body)?;
            let answer: Value = self.runtime.block_on(self.client.request(request))?;
            ensure!(answer["status"]["allowed"] == wanted, "{answer}");
            Ok(())
        })
    }
}

fn deployed() -> Result<Vec<Value>> {
    let documents = DEPLOYED.split("\n---\n");
    documents
        .map(|document| {
            let mut object: Value = serde_saphyr::from_str(document)?;
            // What the Kustomization sets.
            if !object["kind"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("Cluster"))
            {
                object["metadata"]["namespace"] = json!(SYSTEM);
            }
            Ok(object)
        })
        .collect()
}

/// The rules that are left of one without a right.
fn without(rule: &Value, right: &Right) -> Vec<Value> {
    let has = |list: &str, text: &str| {
        let mut items = rule[list].as_array().into_iter().flatten();
        items.any(|item| item == text)
    };
    let concerns = has("apiGroups", right.group) && has("resources", right.resource);
    if !concerns || !has("verbs", right.verb) {
        return vec![rule.clone()];
    }
    let mut others = rule.clone();
    let mut own = rule.clone();
    own["resources"] = json!([right.resource]);
    for (rule, list, text) in [
        (&mut others, "resources", right.resource),
        (&mut own, "verbs", right.verb),
    ] {
        if let Some(items) = rule[list].as_array_mut() {
            items.retain(|item| item != text);
        }
    }
    let is_empty = |rule: &Value, list: &str| rule[list].as_array().is_none_or(Vec::is_empty);
    let rules = [(others, "resources"), (own, "verbs")];
    let left = rules
        .into_iter()
        .filter(|(rule, list)| !is_empty(rule, list));
    left.map(|(rule, _)| rule).collect()
}
