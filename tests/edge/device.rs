//! The device, its router, and somebody who types.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::agent::binary;
use harness::netns::{Netns, next_lab};
use harness::pass;
use harness::peer::bird::Bird;
use harness::process::Process;
use harness::wait;
use lb_userspace::model::status::Status;
use tempfile::TempDir;

/// Longest wait for anything that takes milliseconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The device of the documentation: its switches, a pool, a Service with a pod on the device.
const SOURCE: &str = "\
apiVersion: torline.io/v1alpha1
kind: VirtualSwitch
metadata: {name: vswitch1, namespace: metallb-system}
spec:
  ports: [{alias: Port2, interface: eth1}]
  enabledFor: [mgmt]
---
apiVersion: torline.io/v1alpha1
kind: VirtualSwitch
metadata: {name: vswitch2, namespace: metallb-system}
spec:
  ports: [{alias: Port3, interface: eth2}, {alias: Port4, interface: eth3}]
  enabledFor: [storage]
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: public, namespace: metallb-system}
spec:
  addresses: [10.126.77.200-10.126.77.220]
---
apiVersion: v1
kind: Node
metadata: {name: device}
status:
  addresses: [{type: InternalIP, address: 10.126.77.1}]
  conditions: [{type: Ready, status: \"True\"}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  ipFamilyPolicy: SingleStack
  ipFamilies: [IPv4]
  selector: {app: web}
  ports: [{name: http, protocol: TCP, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, protocol: TCP, port: 8080}]
endpoints:
- {addresses: [10.0.0.1], nodeName: device, conditions: {ready: true}}
";

/// The router: waits for the device, and holds it for 15 seconds.
const ROUTER: &str = "\
log stderr all;
router id 10.126.77.125;
debug protocols { states, events };
protocol device {}
protocol kernel { ipv4 { import none; export all; }; }
protocol bgp edge {
  local 10.126.77.125 as 64512;
  neighbor 10.126.77.1 as 64513;
  passive yes;
  hold time 15;
  error wait time 1, 3;
  ipv4 { import all; export none; };
}
";

/// The address that the Service gets.
pub(crate) const VIP: &str = "10.126.77.200";

/// What a command printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The device.
pub(crate) struct Device {
    pub(crate) tor: Netns,
    netns: Netns,
    dir: TempDir,
    bird: Bird,
    agent: Option<Process>,
}

impl Device {
    /// A device whose agent runs, and a router that waits.
    pub(crate) fn new() -> Result<Self> {
        let lab = next_lab();
        let (tor, netns) = (Netns::in_lab(&lab, "tor")?, Netns::in_lab(&lab, "device")?);
        tor.ip(&format!(
            "link add downlink numtxqueues 1 numrxqueues 1 type veth \
               peer name eth1 numtxqueues 1 numrxqueues 1 netns {}
             addr add 10.126.77.125/24 dev downlink
             link set downlink up",
            netns.name()
        ))?;
        tor.run(["ethtool", "-K", "downlink", "tx", "off"])?;
        // What the device's program sends back arrives only where a program receives, too.
        tor.enter(|| pass::attach("downlink"))?;
        netns.ip("addr add 10.126.77.1/24 dev eth1
             link set eth1 up
             link add eth2 type veth peer name wire2
             link add eth3 type veth peer name wire3
             link set eth2 up
             link set eth3 up")?;
        let dir = tempfile::tempdir()?;
        let bird = Bird::start(&tor, dir.path(), ROUTER)?;
        let mut device = Self {
            tor,
            netns,
            dir,
            bird,
            agent: None,
        };
        fs::create_dir(device.source())?;
        fs::write(device.source().join("device.yaml"), SOURCE)?;
        device.start()?;
        let said = device.torline(&["install-cmdlets", &device.bin().display().to_string()])?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(device)
    }

    /// Starts the agent and waits until it is in sync.
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = self.dir.path().join("log");
        let mut command = Command::new(binary()?);
        command
            .args(["run", "--node", "device", "--interface", "eth1"])
            .args(["--kernel-vips", "no", "--slots", "65536", "--source"])
            .arg(format!("dir:{}", self.source().display()))
            .arg("--socket")
            .arg(self.socket());
        self.agent = Some(Process::start(&self.netns, &mut command, &log)?);
        wait::until("the agent to be in sync", LIMIT, || {
            let status = self.status()?;
            ensure!(status.in_sync, "{status:?}");
            Ok(())
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())
    }

    /// Kills the agent.
    pub(crate) fn kill(&mut self) {
        self.agent = None;
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// Names of the files of the source.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.source())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("torline.sock")
    }

    /// Where the cmdlets are.
    pub(crate) fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// Types a line at the device's prompt.
    pub(crate) fn types(&self, line: &str) -> Result<Said> {
        let mut words = line.split(' ');
        let name = words.next().context("no command")?;
        self.run(Command::new(self.bin().join(name)).args(words))
    }

    /// Runs `torline` with these arguments.
    pub(crate) fn torline(&self, arguments: &[&str]) -> Result<Said> {
        self.run(Command::new(binary()?).args(arguments))
    }

    pub(crate) fn run(&self, command: &mut Command) -> Result<Said> {
        command.env("TORLINE_SOCKET", self.socket());
        let output = self.netns.enter(|| command.output())?;
        Ok(Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }

    pub(crate) fn status(&self) -> Result<Status> {
        let socket = self.socket().display().to_string();
        let said = self.torline(&["status", "--json", "--socket", &socket])?;
        ensure!(said.code == Some(0), "{}", said.err);
        Ok(serde_json::from_str(&said.out)?)
    }

    /// The agent's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What birdc shows of the session.
    pub(crate) fn session(&self) -> Result<String> {
        self.bird.show("protocols all edge")
    }

    /// Waits until the session shows this.
    pub(crate) fn await_session(&self, what: &str) -> Result<String> {
        wait::until(&format!("the router to show {what}"), LIMIT, || {
            let text = self.session()?;
            if !text.contains(what) {
                bail!("{text}");
            }
            Ok(text)
        })
        .with_context(|| self.log())
    }

    /// Waits until the router has a route to the Service, or has none.
    pub(crate) fn await_route(&self, wanted: bool) -> Result<()> {
        wait::until("the router's routes", LIMIT, || {
            let text = self.bird.show("route protocol edge")?;
            ensure!(text.contains(&format!("{VIP}/32")) == wanted, "{text}");
            Ok(())
        })
        .with_context(|| self.log())
    }

    /// The router's log.
    pub(crate) fn router_log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.path().join("bird.log"))?)
    }
}
