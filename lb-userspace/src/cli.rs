//! The command line. Standard output belongs to this module alone; logs go to
//! standard error.
//!
//! Exit codes: 0 done, 1 refused or a check failed, 2 usage or environment.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand};
use lb_common::probe;
use lb_common::wire::geneve;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::daemon::{KernelVips, Settings, Source, UnservedPorts};
use crate::datapath::attach::{AttachChoice, TcOrder};
use crate::k8s::object::SYSTEM_NAMESPACE;
use crate::k8s::status::Pod;
use crate::model::cluster::Forwarding;
use crate::net::unix_http;
use crate::tasks::peer::Called;
use crate::telemetry::{self, Format};

mod capture;
mod cmdlet;
mod completions;
mod crds;
mod detach;
mod doctor;
mod dry_run;
mod install;
mod members;
mod peers;
mod routes;
mod secret;
mod services;
mod status;
mod switch;

/// Where the agent listens for the command line.
const DEFAULT_SOCKET: &str = "/run/torline/torline.sock";

/// Where maps and links are pinned.
const DEFAULT_PIN: &str = "/sys/fs/bpf/torline";

/// A check failed, or the agent refused.
const REFUSED: u8 = 1;

/// The usage error that clap has no words for, and every trouble with the environment.
const ENVIRONMENT: u8 = 2;

#[derive(Parser, Debug)]
#[command(
    name = "torline",
    version,
    about = "A load balancer for Kubernetes that forwards in XDP and announces by BGP, ARP and NDP.",
    after_help = "Examples:
  torline run --source dir:/etc/torline --node node-a --interface eth0
  torline run --source dir:/etc/torline --node node-a --interface eth0 --dry-run
  torline secret > /etc/torline/secret.yaml
  torline status
  torline members
  torline peers
  torline routes --peer tor-a
  torline capture --peer tor-a --write tor-a.mrt
  torline status --json | jq '.sessions[] | {peer, state}'
  torline vswitch list
  torline Get-Help            the cmdlets of an edge device"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the agent of this node.
    Run(Run),
    /// Print the definitions of MetalLB's kinds, for `kubectl apply -f -`.
    #[command(after_help = "Examples:\n  torline crds")]
    Crds,
    /// Show what the agent of this node does.
    #[command(after_help = "Examples:\n  torline status\n  torline status --json")]
    Status(Status),
    /// Show the Services of type LoadBalancer.
    #[command(after_help = "Examples:\n  torline services")]
    Services(Status),
    /// Show one of them: addresses, why it is announced or not, backends, traffic.
    Service(Service),
    /// Show what is behind each frontend, and its share.
    #[command(after_help = "Examples:\n  torline backends")]
    Backends(Status),
    /// Show which nodes live, as this one sees them.
    #[command(after_help = "Examples:\n  torline members")]
    Members(Status),
    /// Show the BGP peers of this node: state, what was agreed, counters, the last error.
    #[command(after_help = "Examples:\n  torline peers")]
    Peers(Status),
    /// Show which BGP routes the peers of this node were sent, with which attributes, for which Services.
    #[command(after_help = "Examples:\n  torline routes\n  torline routes --json")]
    Routes(Routes),
    /// Write the messages of a BGP session to a file in MRT (RFC 6396), for a support ticket.
    Capture(Capture),
    /// Show the virtual switches of this node.
    #[command(subcommand)]
    Vswitch(switch::Vswitch),
    /// Show and change the BGP peers of virtual switches.
    #[command(subcommand)]
    Peer(switch::Peer),
    /// Enable ports for Services, by virtual switches on them.
    #[command(subcommand)]
    Compute(switch::Compute),
    /// Make links by the names of the cmdlets, so that they can be typed as they are.
    InstallCmdlets(install::Install),
    /// Look for what keeps Torline from doing its work on this machine.
    Doctor(doctor::Doctor),
    /// Print completions for a shell, or a PowerShell module with the cmdlets.
    Completions(completions::Completions),
    /// Write man pages.
    Man(completions::Man),
    /// Print the version of this program, and of the agent that runs.
    #[command(after_help = "Examples:\n  torline version")]
    Version(Status),
    /// Print a Secret with fresh keys, for `kubectl apply -f -` or a file of the directory.
    #[command(
        after_help = "Examples:\n  torline secret\n  torline secret --namespace torline-system"
    )]
    Secret(Secret),
    /// Take the data plane of this node down: programs, links and maps that an agent left behind.
    Detach(Detach),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  torline run --source dir:/etc/torline --node node-a --interface eth0
      Serves the Services of the YAML files in /etc/torline.
  torline run --source dir:/etc/torline --node node-a --interface eth0 --dry-run
      Prints every map write and every BGP route, and touches nothing.
  torline run --source kubernetes --node node-a --interface eth0
      Serves the Services of the cluster that KUBECONFIG names, or that the pod runs in.")]
struct Run {
    /// Where Services, EndpointSlices, Nodes and MetalLB's objects come from: `dir:PATH`, or
    /// `kubernetes` for the API server that KUBECONFIG, ~/.kube/config or the pod names.
    #[arg(long, value_name = "SOURCE", value_parser = parse_source)]
    source: Source,
    /// Namespace of MetalLB's objects in a cluster, and of the Secrets that they name.
    #[arg(long, value_name = "NAME", default_value = SYSTEM_NAMESPACE)]
    namespace: String,
    /// Serve the Services of this `spec.loadBalancerClass`, and no others; without it, those that
    /// name none.
    #[arg(long, value_name = "CLASS")]
    lb_class: Option<String>,
    /// Name of this node, as its Node object has it.
    #[arg(long, value_name = "NAME")]
    node: String,
    /// The pod that runs this agent, as NAME/UID: ServiceL2Status, ServiceBGPStatus and the like belong
    /// to it, and go with it.
    #[arg(long, value_name = "POD", value_parser = parse_pod)]
    pod: Option<Pod>,
    /// The interface that carries service traffic.
    #[arg(long, value_name = "IF")]
    interface: String,
    /// Where in the receive path the program sits: in the driver, after it, or the best there is.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = attach_parser())]
    attach: AttachChoice,
    /// Whether this node's kernel serves the VIPs too, as kube-proxy makes it: what the programs
    /// cannot handle then goes to the kernel instead of being dropped. `auto` looks for kube-proxy.
    #[arg(long, value_name = "WHETHER", default_value = "auto", value_parser = kernel_vips_parser())]
    kernel_vips: KernelVips,
    /// What a client gets from a port of a VIP that no Service has, or that has no endpoint: silence,
    /// or a TCP reset or ICMP port unreachable.
    #[arg(long, value_name = "WHAT", default_value = "reject", value_parser = unserved_ports_parser())]
    unserved_ports: UnservedPorts,
    /// How packets get to the nodes of pods, where a Service does not say it: `l2` keeps to nodes on this
    /// segment, `geneve` takes tunnels to all of them, `auto` takes tunnels to those beyond it.
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = forwarding_parser())]
    forwarding: ForwardingChoice,
    /// UDP port of the tunnels between nodes, the same on all of them; another than that of any other
    /// GENEVE on this node, such as OVN's or Cilium's.
    #[arg(long, value_name = "N", default_value_t = geneve::PORT, value_parser = parse_geneve_port)]
    geneve_port: u16,
    /// The agent of another node, and where to speak to it, for `torline members`; may be given several
    /// times. Only needed for nodes that the source does not name.
    #[arg(long = "member", value_name = "NAME=ADDRESS", value_parser = parse_member)]
    members: Vec<(String, IpAddr)>,
    /// Elements of the slot array, 8 bytes each; every frontend takes at least 100 per backend.
    #[arg(long, value_name = "N", default_value_t = Settings::DEFAULT_SLOTS,
          value_parser = clap::value_parser!(u32).range(1024..=1 << 28))]
    slots: u32,
    /// Directory in a BPF file system where maps and links are pinned, so that the data plane outlives
    /// the agent; `none` to have it end with the agent.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PIN)]
    pin: PathBuf,
    /// Where the program for replies stands among the tc programs of others on an interface.
    #[arg(long, value_name = "ORDER", default_value = "last", value_parser = order_parser())]
    tc_order: TcOrder,
    /// Socket for `torline status`.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Loopback port of /healthz and /readyz; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 17472)]
    health_port: u16,
    /// Print what would be done and exit.
    #[arg(long)]
    dry_run: bool,
    /// How log lines are written.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = format_parser())]
    log_format: Format,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  torline detach
      After the agent was stopped: ends the connections that still go through this node.")]
struct Detach {
    /// Directory of the pins, as `torline run` was given it.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PIN)]
    pin: PathBuf,
}

#[derive(Args, Debug)]
struct Status {
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
    /// The agent's socket; TORLINE_SOCKET names another, too.
    #[arg(long, value_name = "PATH", default_value_os_t = switch::default_socket())]
    socket: PathBuf,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  torline service default/web\n  torline service web --json")]
struct Service {
    /// Its name; with its namespace where several have it.
    name: String,
    #[command(flatten)]
    status: Status,
}

#[derive(Args, Debug)]
struct Routes {
    /// Only what this BGPPeer was sent.
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    #[command(flatten)]
    status: Status,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  torline capture --peer tor-a --write tor-a.mrt
      The latest messages and those to come, until interrupted, for whatever reads MRT.
  torline capture --peer tor-a --write tor-a.mrt --seconds 0 --json
      Only what the agent remembers; prints how many messages of each kind that was.")]
struct Capture {
    /// The BGPPeer, by the name that `torline peers` gives it.
    #[arg(long, value_name = "NAME")]
    peer: String,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    write: PathBuf,
    /// For how long; 0 for what the agent remembers. Until interrupted unless given.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    #[command(flatten)]
    status: Status,
}

#[derive(Args, Debug)]
struct Secret {
    /// Namespace of the Secret.
    #[arg(long, value_name = "NAME", default_value = "torline-system")]
    namespace: String,
}

/// Parses the arguments of the process and does what they say.
pub fn main() -> ExitCode {
    if let Some(code) = cmdlet::intercept() {
        return code;
    }
    let outcome = match Cli::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Crds => crds::show(),
        Command::Detach(arguments) => detach::detach(&arguments.pin),
        Command::Status(arguments) => status::show(&arguments.socket, arguments.json),
        Command::Members(arguments) => members::show(&arguments.socket, arguments.json),
        Command::Peers(arguments) => peers::show(&arguments.socket, arguments.json),
        Command::Routes(Routes { peer, status }) => {
            routes::show(&status.socket, peer.as_deref(), status.json)
        }
        Command::Capture(arguments) => capture::write(
            &arguments.status.socket,
            &capture::Capture {
                peer: &arguments.peer,
                file: &arguments.write,
                seconds: arguments.seconds,
            },
            arguments.status.json,
        ),
        Command::Vswitch(command) => switch::vswitch(&command),
        Command::Peer(command) => switch::peer(command),
        Command::Compute(command) => switch::compute(command),
        Command::InstallCmdlets(arguments) => install::install(&arguments.directory),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completions(arguments) => completions::show(&arguments, Cli::command()),
        Command::Man(arguments) => completions::write_pages(&arguments, Cli::command()),
        Command::Version(arguments) => status::version(&arguments.socket, arguments.json),
        Command::Services(arguments) => services::services_of(&arguments.socket, arguments.json),
        Command::Service(Service { name, status }) => {
            services::service_of(&status.socket, &name, status.json)
        }
        Command::Backends(arguments) => services::backends_of(&arguments.socket, arguments.json),
        Command::Secret(arguments) => secret::show(&arguments.namespace),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Failed(code)) = error.downcast_ref() {
                return ExitCode::from(*code);
            }
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "torline: {error:#}");
            ExitCode::from(match error.is::<Refused>() {
                true => REFUSED,
                false => ENVIRONMENT,
            })
        }
    }
}

fn parse_pod(text: &str) -> Result<Pod, String> {
    match text.split_once('/') {
        Some((name, uid)) if !name.is_empty() && !uid.is_empty() => Ok(Pod {
            name: name.to_owned(),
            uid: uid.to_owned(),
        }),
        _ => Err("want NAME/UID".to_owned()),
    }
}
/// The agent refused, or there is no such thing; nothing was changed.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
struct Refused(String);

/// A check failed with this exit code; what there is to say is said.
#[derive(thiserror::Error, Debug)]
#[error("exit code {0}")]
struct Failed(u8);

fn run(arguments: Run) -> anyhow::Result<()> {
    telemetry::start(arguments.log_format)?;
    let dry_run = arguments.dry_run;
    let mut members = Called::new();
    for (name, address) in arguments.members {
        members.entry(name).or_default().push(address);
    }
    let settings = Settings {
        source: arguments.source,
        namespace: arguments.namespace,
        load_balancer_class: arguments.lb_class.filter(|class| !class.is_empty()),
        node: arguments.node,
        pod: arguments.pod,
        interface: arguments.interface,
        attach: arguments.attach,
        kernel_vips: arguments.kernel_vips,
        unserved_ports: arguments.unserved_ports,
        forwarding: arguments.forwarding.0,
        geneve_port: arguments.geneve_port,
        members,
        slots: arguments.slots,
        pin: Some(arguments.pin).filter(|path| path.as_os_str() != "none"),
        tc_order: arguments.tc_order,
        socket: arguments.socket,
        health_port: arguments.health_port,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    if dry_run {
        return dry_run::print_rehearsal(&runtime.block_on(crate::daemon::rehearse(&settings))?);
    }
    runtime.block_on(crate::daemon::run(settings))
}

/// What the agent behind a socket answers.
fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> anyhow::Result<T> {
    understand(&wait_for(socket, unix_http::get(socket, path))?)
}

/// What the agent behind a socket answers to a request: that it was done, or why not.
fn tell<D: DeserializeOwned, R: DeserializeOwned>(
    socket: &Path,
    path: &str,
    request: &impl Serialize,
) -> anyhow::Result<Result<D, R>> {
    let json = serde_json::to_vec(request)?.into();
    Ok(
        match wait_for(socket, unix_http::post(socket, path, json))? {
            unix_http::Posted::Done(body) => Ok(understand(&body)?),
            unix_http::Posted::Refused(body) => Err(understand(&body)?),
        },
    )
}

fn wait_for<T>(
    socket: &Path,
    answer: impl Future<Output = Result<T, unix_http::GetError>>,
) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(answer)
        .with_context(|| no_agent(socket))
}

fn understand<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body)
        .context("the agent's answer is not understood; is it of another version?")
}

fn no_agent(socket: &Path) -> String {
    format!(
        "no agent answers on {}; is `torline run` running, with the same --socket?",
        socket.display()
    )
}

/// Prints; a reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn parse_source(text: &str) -> Result<Source, String> {
    match text.strip_prefix("dir:") {
        Some(path) if !path.is_empty() => Ok(Source::Directory(PathBuf::from(path))),
        None if text == "kubernetes" => Ok(Source::Kubernetes),
        _ => Err("want dir:PATH, a directory of YAML files, or kubernetes".to_owned()),
    }
}

fn attach_parser() -> impl TypedValueParser<Value = AttachChoice> {
    PossibleValuesParser::new(["auto", "native", "generic"]).map(|text| match text.as_str() {
        "native" => AttachChoice::Native,
        "generic" => AttachChoice::Generic,
        _ => AttachChoice::Auto,
    })
}

fn kernel_vips_parser() -> impl TypedValueParser<Value = KernelVips> {
    PossibleValuesParser::new(["auto", "yes", "no"]).map(|text| match text.as_str() {
        "yes" => KernelVips::Yes,
        "no" => KernelVips::No,
        _ => KernelVips::Auto,
    })
}

fn unserved_ports_parser() -> impl TypedValueParser<Value = UnservedPorts> {
    PossibleValuesParser::new(["drop", "reject"]).map(|text| match text.as_str() {
        "reject" => UnservedPorts::Reject,
        _ => UnservedPorts::Drop,
    })
}

/// What `--forwarding` says; `None` is `auto`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ForwardingChoice(Option<Forwarding>);

fn forwarding_parser() -> impl TypedValueParser<Value = ForwardingChoice> {
    PossibleValuesParser::new(["auto", "l2", "geneve"]).map(|text| {
        ForwardingChoice(match text.as_str() {
            "l2" => Some(Forwarding::L2),
            "geneve" => Some(Forwarding::Geneve),
            _ => None,
        })
    })
}

fn parse_geneve_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("want a port from 1 to 65535".to_owned()),
        Ok(probe::PORT) => Err(format!(
            "{} is the port of the probes between nodes",
            probe::PORT
        )),
        Ok(port) => Ok(port),
    }
}

fn parse_member(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("want NAME=ADDRESS, such as node-b=192.0.2.12")?;
    match address.parse() {
        Ok(address) => Ok((name.to_owned(), address)),
        Err(_) => Err(format!("{address} is no IP address")),
    }
}

fn order_parser() -> impl TypedValueParser<Value = TcOrder> {
    PossibleValuesParser::new(["first", "last"]).map(|text| match text.as_str() {
        "first" => TcOrder::First,
        _ => TcOrder::Last,
    })
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["text", "json"]).map(|text| match text.as_str() {
        "json" => Format::Json,
        _ => Format::Text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("torline").chain(arguments.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_needs_a_source_a_node_and_an_interface_only() {
        let cli = parse("run --source dir:/etc/torline --node a --interface eth0").unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run");
        };
        assert_eq!(run.source, Source::Directory("/etc/torline".into()));
        assert_eq!(run.namespace, "metallb-system");
        assert_eq!(run.lb_class, None);
        assert_eq!(run.attach, AttachChoice::Auto);
        assert_eq!(run.kernel_vips, KernelVips::Auto);
        assert_eq!(run.unserved_ports, UnservedPorts::Reject);
        assert_eq!(run.socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!(run.health_port, 17472);
        assert_eq!(run.pin, PathBuf::from(DEFAULT_PIN));
        assert_eq!(run.tc_order, TcOrder::Last);
        assert_eq!(run.forwarding, ForwardingChoice(None));
        assert_eq!(run.geneve_port, geneve::PORT);
        assert!(!run.dry_run);
        assert!(parse("run --node a --interface eth0").is_err());
    }

    #[test]
    fn a_source_says_of_what_kind_it_is() {
        let error = parse("run --source /etc/torline --node a --interface eth0").unwrap_err();
        assert!(error.to_string().contains("want dir:PATH"), "{error}");
    }

    #[test]
    fn tunnels_have_a_port_of_their_own() {
        for (port, reason) in [
            ("0", "want a port from 1 to 65535"),
            ("65536", "want a port from 1 to 65535"),
            ("17473", "17473 is the port of the probes between nodes"),
        ] {
            let arguments =
                format!("run --source dir:/x --node a --interface eth0 --geneve-port {port}");
            let error = parse(&arguments).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn members_have_a_name_and_an_address_and_may_be_several() {
        let run = "run --source dir:/x --node a --interface eth0";
        let cli = parse(&format!(
            "{run} --member b=192.0.2.12 --member b=2001:db8::12"
        ));
        let Command::Run(parsed) = cli.unwrap().command else {
            panic!("not run");
        };
        let addresses = ["192.0.2.12", "2001:db8::12"];
        let wanted = addresses.map(|addr| ("b".to_owned(), addr.parse().unwrap()));
        assert_eq!(parsed.members, wanted);
        for (member, reason) in [
            ("192.0.2.12", "want NAME=ADDRESS"),
            ("=192.0.2.12", "want NAME=ADDRESS"),
            ("b=c", "c is no IP address"),
        ] {
            let error = parse(&format!("{run} --member {member}")).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn usage_errors_exit_with_2() {
        let error = parse("run --attach sideways").unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    /// Calls `visit` for every command that does something, with its words.
    fn visit(command: &clap::Command, words: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
        if command.get_subcommands().next().is_none() {
            visit(words, command);
        }
        for below in command.get_subcommands() {
            self::visit(below, &format!("{words} {}", below.get_name()), visit);
        }
    }

    #[test]
    fn every_command_has_an_example_that_it_understands() {
        visit(&Cli::command(), "torline", &mut |words, command| {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_default();
            let examples = examples.lines().map(str::trim);
            let examples: Vec<_> = examples.filter(|line| line.starts_with(words)).collect();
            assert!(!examples.is_empty(), "{words} has none");
            for example in examples {
                let own = example.split(['|', '>']).next().unwrap_or_default();
                let parsed = Cli::try_parse_from(own.split_whitespace());
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        });
    }
}
