//! One agent on one interface, and a directory with a Service of two pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::agent::binary;
use harness::netns::Netns;
use harness::process::Process;
use harness::wait;
use lb_userspace::model::status::Status;
use tempfile::TempDir;

/// Longest wait for anything that takes milliseconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const CLUSTER: &str = "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: public, namespace: metallb-system}
spec:
  addresses: [203.0.113.10-203.0.113.20]
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: metallb-system}
spec: {}
---
apiVersion: v1
kind: Node
metadata: {name: node-a}
status:
  addresses: [{type: InternalIP, address: 192.0.2.11}]
  conditions: [{type: Ready, status: \"True\"}]
---
apiVersion: v1
kind: Node
metadata: {name: node-b}
status:
  addresses: [{type: InternalIP, address: 192.0.2.12}]
  conditions: [{type: Ready, status: \"True\"}]
";

pub(crate) const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  ipFamilyPolicy: SingleStack
  ipFamilies: [IPv4]
  selector: {app: web}
  ports: [{name: http, protocol: TCP, port: 80, targetPort: 8080}]
";

/// An EndpointSlice with this many pods, on the two nodes in turn.
pub(crate) fn endpoints(pods: u8) -> String {
    let endpoints: String = (1..=pods)
        .map(|pod| {
            let node = if pod % 2 == 1 { "node-a" } else { "node-b" };
            format!(
                "- {{addresses: [10.0.0.{pod}], nodeName: {node}, conditions: {{ready: true}}}}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, protocol: TCP, port: 8080}}]
endpoints:
{endpoints}"
    )
}

/// A namespace with an interface, and a directory with a Service of two pods.
pub(crate) struct Bench {
    pub(crate) netns: Netns,
    pub(crate) dir: TempDir,
    /// Elements of the slot array.
    pub(crate) slots: String,
}

impl Bench {
    pub(crate) fn new(role: &str) -> Result<Self> {
        let netns = Netns::new(role)?;
        netns.ip("link add eth0 type veth peer name wire
             address add 192.0.2.11/24 dev eth0
             link set eth0 up
             link set wire up")?;
        let bench = Self {
            netns,
            dir: tempfile::tempdir()?,
            slots: "65536".to_owned(),
        };
        fs::create_dir(bench.source())?;
        bench.write("cluster.yaml", CLUSTER)?;
        bench.write("service.yaml", SERVICE)?;
        bench.write("endpoints.yaml", &endpoints(2))?;
        Ok(bench)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("torline.sock")
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.source().join(file), text)?)
    }

    pub(crate) fn command(&self, interface: &str) -> Result<Command> {
        self.command_on(interface, &self.socket())
    }

    pub(crate) fn command_on(&self, interface: &str, socket: &Path) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .args(["run", "--node", "node-a", "--interface", interface])
            .args(["--kernel-vips", "no", "--slots", &self.slots, "--source"])
            .arg(format!("dir:{}", self.source().display()))
            .arg("--socket")
            .arg(socket);
        Ok(command)
    }

    /// Starts the agent and waits until it is in sync.
    pub(crate) fn start(&self) -> Result<Process> {
        self.start_with(&[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Result<Process> {
        let log = self.dir.path().join("log");
        let mut command = self.command("eth0")?;
        let agent = Process::start(&self.netns, command.args(arguments), &log)?;
        self.wait_for("the agent to be in sync", |status| status.in_sync)
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(agent)
    }

    /// Runs an agent that is to end by itself.
    pub(crate) fn run(&self, mut command: Command) -> Result<Output> {
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        Ok(self.netns.start(&mut command)?.wait_with_output()?)
    }

    pub(crate) fn status(&self) -> Result<Status> {
        status(&self.socket())
    }

    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        wait::until(what, LIMIT, || {
            let status = self.status()?;
            if !wanted(&status) {
                bail!("{status:#?}");
            }
            Ok(status)
        })
    }

    /// Runs `torline detach`.
    pub(crate) fn detach(&self) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.arg("detach");
        self.run(command)
    }

    /// Names of what is in a directory of bpffs and below; nothing if it is not there.
    pub(crate) fn pins(&self, directory: &str) -> Option<Vec<String>> {
        let path = Path::new("/sys/fs/bpf").join(directory);
        let path = path.display().to_string();
        let listing = self.netns.run(["find", &path, "-printf", "%f\\n"]).ok()?;
        Some(listing.lines().map(str::to_owned).collect())
    }

    pub(crate) fn link(&self) -> Result<String> {
        self.netns.run(["ip", "-details", "link", "show", "eth0"])
    }
}

pub(crate) fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What `torline status --json` says.
pub(crate) fn status(socket: &Path) -> Result<Status> {
    let output = Command::new(binary()?)
        .args(["status", "--json", "--socket"])
        .arg(socket)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
