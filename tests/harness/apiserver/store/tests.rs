//! What clients rely on.

use super::*;

fn target(path: &str) -> Target {
    Target::of(path).unwrap()
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "LoadBalancer"}})
}

#[test]
fn an_update_of_an_older_version_is_a_conflict() {
    let mut store = Store::new();
    let all = target("/api/v1/namespaces/a/services");
    let first = store.create(&all, service("web")).unwrap();
    let web = target("/api/v1/namespaces/a/services/web");
    let mut second = first.clone();
    second["spec"]["type"] = json!("ClusterIP");
    let second = store.update(&web, second).unwrap();
    assert_eq!(store.update(&web, first).unwrap_err().reason, "Conflict");
    assert_eq!(store.get(&web).unwrap(), second);
    assert_eq!(store.create(&all, service("web")).unwrap_err().code, 409);
}

#[test]
fn the_status_of_a_service_takes_annotations_along_and_no_spec() {
    let mut store = Store::new();
    let all = target("/api/v1/namespaces/a/services");
    store.create(&all, service("web")).unwrap();
    let status = target("/api/v1/namespaces/a/services/web/status");
    let patch = json!({
        "metadata": {"annotations": {"a": "b"}},
        "spec": {"type": "ClusterIP"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let object = store.patch(&status, &patch, false).unwrap();
    assert_eq!(object["spec"]["type"], "LoadBalancer");
    assert_eq!(object["metadata"]["annotations"]["a"], "b");
    assert_eq!(
        object["status"]["loadBalancer"]["ingress"][0]["ip"],
        "192.0.2.1"
    );
}

#[test]
fn a_history_that_is_gone_is_expired() {
    let mut store = Store::new();
    let all = target("/api/v1/services");
    let before = store.version();
    store
        .create(&target("/api/v1/namespaces/a/services"), service("web"))
        .unwrap();
    assert_eq!(store.events(&all, before).unwrap().len(), 1);
    store.expire();
    assert_eq!(store.events(&all, before).unwrap_err().code, 410);
    assert_eq!(store.events(&all, store.version()).unwrap().len(), 0);
    assert_eq!(store.list(&all).len(), 1);
}
