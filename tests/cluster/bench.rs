//! The surroundings of a scenario: an API server, a namespace, an agent.

use std::env;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::agent::binary;
use harness::apiserver::Double;
use harness::netns::Netns;
use harness::process::Process;
use harness::wait;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use lb_userspace::k8s::crd;
use lb_userspace::model::status::Status;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::forward::Forward;
use crate::objects::{NAMESPACE, SYSTEM, plural};

/// Longest wait for anything that takes milliseconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Who applies the scenarios' objects.
pub(crate) const MANAGER: &str = "torline-tests";

/// The API server that scenarios run against.
pub(crate) enum Server {
    /// A double, another for each scenario.
    Double,
    /// A cluster's.
    Cluster(Box<Kubeconfig>),
}

impl Server {
    /// The cluster that `KUBECONFIG` names, or the double.
    pub(crate) fn from_environment() -> Result<Self> {
        match env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
            None => Ok(Self::Double),
            Some(path) => Ok(Self::Cluster(Box::new(Kubeconfig::read_from(path)?))),
        }
    }

    pub(crate) const fn is_double(&self) -> bool {
        matches!(self, Self::Double)
    }

    /// What it says of itself.
    pub(crate) fn version(&self) -> Result<String> {
        let Self::Cluster(kubeconfig) = self else {
            return Ok("double".to_owned());
        };
        let runtime = Runtime::new()?;
        runtime.block_on(async {
            let client = client((**kubeconfig).clone()).await?;
            Ok(client.apiserver_version().await?.git_version)
        })
    }
}

/// Objects of these kinds in the agents' namespace are the scenarios' alone, and go before each.
const CLEARED: [(&str, &str); 13] = [
    ("metallb.io/v1beta1", "IPAddressPool"),
    ("metallb.io/v1beta2", "BGPPeer"),
    ("metallb.io/v1beta1", "BGPAdvertisement"),
    ("metallb.io/v1beta1", "L2Advertisement"),
    ("metallb.io/v1beta1", "Community"),
    ("metallb.io/v1beta1", "BFDProfile"),
    ("metallb.io/v1beta1", "ServiceL2Status"),
    ("metallb.io/v1beta1", "ServiceBGPStatus"),
    ("metallb.io/v1beta1", "ConfigurationState"),
    ("frrk8s.metallb.io/v1beta1", "BGPSessionState"),
    ("coordination.k8s.io/v1", "Lease"),
    ("v1", "Secret"),
    ("events.k8s.io/v1", "Event"),
];

/// See the module.
pub(crate) struct Bench {
    netns: Netns,
    dir: TempDir,
    pub(crate) runtime: Runtime,
    pub(crate) client: Client,
    pub(crate) double: Option<Double>,
    agent: Option<Process>,
    applied: Vec<Value>,
    _forwards: Vec<Forward>,
}

impl Bench {
    /// An API server with the namespaces and definitions, and no agent yet.
    pub(crate) fn new(server: &Server) -> Result<Self> {
        let netns = Netns::new("cluster")?;
        netns.ip("link add eth0 type veth peer name wire
             address add 192.0.2.11/24 dev eth0
             link set eth0 up
             link set wire up")?;
        let dir = tempfile::tempdir()?;
        let runtime = Runtime::new()?;
        let (double, outside) = match server {
            Server::Double => {
                let double = Double::new()?;
                let text = Double::kubeconfig(double.address());
                (Some(double), serde_json::from_value(text)?)
            }
            Server::Cluster(kubeconfig) => (None, (**kubeconfig).clone()),
        };
        let (inside, forwards) = lead_into(&netns, outside.clone())?;
        let client = runtime.block_on(client(outside))?;
        let mut bench = Self {
            netns,
            dir,
            runtime,
            client,
            double,
            agent: None,
            applied: Vec::new(),
            _forwards: forwards,
        };
        bench.prepare()?;
        let inside = match bench.double {
            Some(_) => inside,
            None => bench.as_agent(inside)?,
        };
        let path = bench.dir.path().join("kubeconfig");
        fs::write(path, serde_json::to_vec(&inside)?)?;
        Ok(bench)
    }

    /// What a cluster has before any scenario.
    fn prepare(&mut self) -> Result<()> {
        for name in [SYSTEM, NAMESPACE] {
            let metadata = json!({"name": name});
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
            self.patch(&object, None)?;
        }
        if self.double.is_none() {
            let api = Api::<CustomResourceDefinition>::all(self.client.clone());
            let apply = PatchParams::apply(MANAGER).force();
            for definition in crd::definitions()? {
                let (name, patch) = (definition.name_any(), Patch::Apply(&definition));
                self.runtime.block_on(api.patch(&name, &apply, &patch))?;
            }
            self.clear()?;
            self.grant()?;
        }
        Ok(())
    }

    /// Removes what another scenario has left.
    fn clear(&self) -> Result<()> {
        for (version, kind) in CLEARED {
            let metadata = json!({"namespace": SYSTEM});
            let any = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
            self.delete_all(&any)?;
        }
        for (version, kind) in [
            ("v1", "Service"),
            ("discovery.k8s.io/v1", "EndpointSlice"),
            ("events.k8s.io/v1", "Event"),
        ] {
            let metadata = json!({"namespace": NAMESPACE});
            let any = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
            self.delete_all(&any)?;
        }
        Ok(())
    }

    /// Deletes all objects of the kind and namespace of `any`.
    fn delete_all(&self, any: &Value) -> Result<()> {
        let api = self.api(any)?;
        wait::until("a resource", LIMIT, || {
            let list = self.runtime.block_on(api.list(&ListParams::default()))?;
            for object in list {
                let (name, parameters) = (object.name_any(), DeleteParams::default());
                // Somebody else may have been faster.
                let _ = self.runtime.block_on(api.delete(&name, &parameters));
            }
            Ok(())
        })
    }

    /// The double, in scenarios that need one.
    pub(crate) fn double(&mut self) -> Result<&mut Double> {
        self.double.as_mut().context("the scenario needs a double")
    }

    /// Makes or changes objects; they go with the scenario.
    pub(crate) fn apply(&mut self, objects: impl IntoIterator<Item = Value>) -> Result<()> {
        for object in objects {
            self.patch(&object, None)?;
            let status = object["kind"] == "Node" && self.double.is_none();
            if status {
                self.patch(&object, Some("status"))?;
            }
            self.applied.push(object);
        }
        Ok(())
    }

    /// All objects of a kind, as the API server has them.
    pub(crate) fn list(&self, any: &Value) -> Result<Vec<Value>> {
        let list = self
            .runtime
            .block_on(self.api(any)?.list(&ListParams::default()))?;
        let objects = list.items.into_iter().map(serde_json::to_value);
        Ok(objects.collect::<Result<_, _>>()?)
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, object: &Value) -> Result<()> {
        let api = self.api(object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.runtime
            .block_on(api.delete(name, &DeleteParams::default()))?;
        Ok(())
    }

    /// Makes or changes the status of an object that is there.
    pub(crate) fn apply_status(&self, object: &Value) -> Result<()> {
        self.patch(object, Some("status"))
    }

    /// An object as the API server has it.
    pub(crate) fn get(&self, object: &Value) -> Result<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let found = self.runtime.block_on(self.api(object)?.get(name))?;
        Ok(serde_json::to_value(found)?)
    }

    /// The events about the scenarios' Services.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        self.list(&json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": NAMESPACE},
        }))
    }

    pub(crate) fn patch(&self, object: &Value, subresource: Option<&str>) -> Result<()> {
        let api = self.api(object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let apply = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(object);
        self.runtime
            .block_on(async {
                match subresource {
                    None => api.patch(name, &apply, &patch).await,
                    Some(_) => api.patch_status(name, &apply, &patch).await,
                }
            })
            .with_context(|| format!("apply {object}"))?;
        Ok(())
    }

    fn api(&self, object: &Value) -> Result<Api<DynamicObject>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let gvk = GroupVersionKind::gvk(group, version, &kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, &plural(&kind));
        let client = self.client.clone();
        Ok(match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        })
    }

    /// Starts the agent of `node-a`.
    pub(crate) fn start(&mut self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(binary()?);
        command
            .env("KUBECONFIG", self.dir.path().join("kubeconfig"))
            .args(["run", "--source", "kubernetes", "--node", "node-a"])
            .args(["--interface", "eth0", "--kernel-vips", "no"])
            .args(["--slots", "65536", "--pin", "none", "--socket"])
            .arg(self.socket())
            .args(arguments);
        self.agent = Some(Process::start(&self.netns, &mut command, &self.log_file())?);
        Ok(())
    }

    /// Ends the agent with SIGTERM.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let agent = self.agent.take().context("no agent was started")?;
        let end = agent.stop(Signal::SIGTERM, LIMIT)?;
        ensure!(end.success(), "the agent ended with {end}");
        Ok(())
    }

    /// Waits until the agent's status is as wanted.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        wait::until(what, LIMIT, || {
            let agent = self.agent.as_mut().context("no agent was started")?;
            ensure!(agent.ended()?.is_none(), "the agent ended");
            let status = self.status()?;
            if !wanted(&status) {
                bail!("{status:?}");
            }
            Ok(status)
        })
    }

    /// Waits until a finding of the agent's has these words.
    pub(crate) fn wait_for_finding(&mut self, object: &str, words: &str) -> Result<()> {
        self.wait_for(&format!("a finding: {words}"), |status| {
            let mut findings = status.findings.iter();
            findings.any(|f| f.object.contains(object) && f.message.contains(words))
        })?;
        Ok(())
    }

    /// The same, where the words may be in the name of the field.
    pub(crate) fn wait_for_finding_of(&mut self, object: &str, words: &str) -> Result<()> {
        self.wait_for(&format!("a finding: {words}"), |status| {
            let mut findings = status.findings.iter();
            findings.any(|f| {
                f.object == object && (f.message.contains(words) || f.field.contains(words))
            })
        })?;
        Ok(())
    }

    /// Waits until the agent has logged these words.
    pub(crate) fn wait_for_log(&self, words: &str) -> Result<()> {
        wait::until(&format!("in the log: {words}"), LIMIT, || {
            let log = self.log();
            ensure!(log.contains(words), "{log}");
            Ok(())
        })
    }

    /// What `torline status --json` says.
    pub(crate) fn status(&self) -> Result<Status> {
        let output = Command::new(binary()?)
            .args(["status", "--json", "--socket"])
            .arg(self.socket())
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{stderr}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What `torline` prints with these arguments.
    pub(crate) fn torline(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("TORLINE_SOCKET", self.socket());
        let output = command.output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {stderr}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What the agent has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("torline.sock")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.double.is_none() {
            for object in &self.applied {
                // Some are gone already.
                let _ = self.delete(object);
            }
        }
    }
}

async fn client(kubeconfig: Kubeconfig) -> Result<Client> {
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(Client::try_from(config)?)
}

/// The same kubeconfig for somebody in a namespace, who reaches the server by a port of the loopback.
fn lead_into(netns: &Netns, mut kubeconfig: Kubeconfig) -> Result<(Kubeconfig, Vec<Forward>)> {
    let mut forwards = Vec::new();
    for cluster in &mut kubeconfig.clusters {
        let Some(cluster) = &mut cluster.cluster else {
            continue;
        };
        let server = cluster.server.clone().unwrap_or_default();
        let (scheme, authority) = server
            .split_once("://")
            .context("a server without scheme")?;
        let authority = authority.trim_end_matches('/');
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:443")
        };
        let outside: SocketAddr = authority.to_socket_addrs()?.next().context("no address")?;
        let forward = Forward::new(netns, outside)?;
        cluster.server = Some(format!("{scheme}://{}", forward.address));
        forwards.push(forward);
        if scheme == "https" && cluster.tls_server_name.is_none() {
            let host = authority.rsplit_once(':').map(|(host, _)| host.to_owned());
            cluster.tls_server_name = host;
        }
    }
    Ok((kubeconfig, forwards))
}
