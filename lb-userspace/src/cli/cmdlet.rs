//! The cmdlets of an edge device: `torline Get-HcsBGPPeers …`, or the same by
//! the name that the program is called by.

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::switch::{self, Asked};
use super::{ENVIRONMENT, REFUSED, print};
use crate::hcs::bind::{Bound, bind};
use crate::hcs::cmdlet::{
    AS_JSON, Cmdlet, HOLD_TIME, MULTI_HOP, PEER_ADDRESS, PEER_ASN, SELF_ASN, SWITCH_NAME, VERBOSE,
    WHAT_IF,
};
use crate::hcs::display;
use crate::hcs::failure::{Failure, Kind};
use crate::hcs::help;
use crate::model::virtual_switch::{
    PeerRequest, SwitchChange, SwitchRefusal, SwitchReport, SwitchesReport,
};

/// Shows help.
const GET_HELP: &str = "Get-Help";

/// Names that links to the program may have.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    Cmdlet::ALL.into_iter().map(Cmdlet::name).chain([GET_HELP])
}

/// Runs the cmdlet that the program is called by, or that its first argument names.
pub(super) fn intercept() -> Option<ExitCode> {
    let arguments: Vec<String> = env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let (program, rest) = arguments.split_first()?;
    let own = Path::new(program).file_name()?.to_string_lossy();
    run_named(&own, rest).or_else(|| {
        let (first, rest) = rest.split_first()?;
        let unknown = || {
            let is_one = first.to_ascii_lowercase().contains("-hcs");
            is_one.then(|| fail(first, &not_recognized(first)))
        };
        run_named(first, rest).or_else(unknown)
    })
}

fn run_named(name: &str, arguments: &[String]) -> Option<ExitCode> {
    if name.eq_ignore_ascii_case(GET_HELP) {
        return Some(get_help(arguments));
    }
    let cmdlet = Cmdlet::by_name(name)?;
    Some(match run(cmdlet, arguments) {
        Ok(text) => finish(&text),
        Err(failure) => fail(cmdlet.name(), &failure),
    })
}

fn get_help(arguments: &[String]) -> ExitCode {
    match arguments {
        [] => finish(&help::all()),
        [name, ..] => match Cmdlet::by_name(name) {
            Some(cmdlet) => finish(&help::of(cmdlet)),
            None => fail(GET_HELP, &not_recognized(name)),
        },
    }
}

fn not_recognized(name: &str) -> Failure {
    let message = format!(
        "The term '{name}' is not recognized as the name of a cmdlet. There are: {}.",
        Cmdlet::ALL.map(Cmdlet::name).join(", ")
    );
    Failure::new(Kind::CommandNotFound, message).about(name)
}

fn finish(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(ENVIRONMENT),
    }
}

fn fail(command: &str, failure: &Failure) -> ExitCode {
    say(&failure.render(command));
    match failure.kind {
        Kind::Unavailable => ExitCode::from(ENVIRONMENT),
        _ => ExitCode::from(REFUSED),
    }
}

/// Where standard error is closed there is nobody to tell.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Carries a cmdlet out; returns what it prints.
fn run(cmdlet: Cmdlet, arguments: &[String]) -> Result<String, Failure> {
    let bound = bind(cmdlet, arguments)?;
    if bound.wants_help {
        return Ok(help::of(cmdlet));
    }
    let switch = || bound.text(SWITCH_NAME).unwrap_or_default().to_owned();
    match cmdlet {
        Cmdlet::GetExternalVirtualSwitch => {
            let report = report()?;
            verbose(&bound, &format!("Asked the agent of {}.", report.node));
            written(
                &bound,
                &report.switches,
                display::list,
                display::switches_json,
            )
        }
        Cmdlet::GetBgpPeers => {
            let report = report()?;
            verbose(&bound, &format!("Asked the agent of {}.", report.node));
            let found = find(&report, &switch())?;
            written(&bound, &found.peers, display::table, display::peers_json)
        }
        Cmdlet::SetBgpPeer => {
            let (Some(address), Some(peer_asn), Some(self_asn)) = (
                bound.address(PEER_ADDRESS),
                bound.number(PEER_ASN),
                bound.number(SELF_ASN),
            ) else {
                return Err(Failure::new(
                    Kind::MissingMandatoryParameter,
                    "a value is missing",
                ));
            };
            let hold_time = bound.number(HOLD_TIME);
            let peer = PeerRequest {
                switch: switch(),
                address,
                peer_asn,
                self_asn,
                hold_time_seconds: hold_time.and_then(|seconds| u16::try_from(seconds).ok()),
                multi_hop: bound.is_on(MULTI_HOP),
            };
            let target = format!("{address} on {}", peer.switch);
            change(cmdlet, &bound, &target, SwitchChange::SetPeer(peer))
        }
        Cmdlet::RemoveBgpPeer => {
            let Some(address) = bound.address(PEER_ADDRESS) else {
                return Err(Failure::new(
                    Kind::MissingMandatoryParameter,
                    "a value is missing",
                ));
            };
            let switch = switch();
            let target = format!("{address} on {switch}");
            let wanted = SwitchChange::RemovePeer { switch, address };
            change(cmdlet, &bound, &target, wanted)
        }
    }
}

fn written<T>(
    bound: &Bound,
    objects: &[T],
    text: fn(&[T]) -> String,
    json: fn(&[T]) -> serde_json::Result<String>,
) -> Result<String, Failure> {
    if bound.is_on(AS_JSON) {
        return json(objects)
            .map_err(|error| Failure::new(Kind::InvalidRequest, error.to_string()));
    }
    Ok(text(objects))
}

fn verbose(bound: &Bound, what: &str) {
    if bound.is_on(VERBOSE) {
        say(&format!("VERBOSE: {what}\n"));
    }
}

fn change(
    cmdlet: Cmdlet,
    bound: &Bound,
    target: &str,
    wanted: SwitchChange,
) -> Result<String, Failure> {
    let what_if = bound.is_on(WHAT_IF);
    let operation = format!(
        "Performing the operation \"{}\" on target \"{target}\".",
        cmdlet.name()
    );
    if !what_if {
        verbose(bound, &operation);
    }
    let answer = match switch::change(&switch::default_socket(), wanted, what_if) {
        Ok(Asked::Done(answer)) => answer,
        Ok(Asked::Refused(refusal)) => return Err(refused(&refusal)),
        Err(error) => return Err(unavailable(&error)),
    };
    for warning in &answer.warnings {
        say(&format!("WARNING: {warning}\n"));
    }
    for done in &answer.done {
        verbose(bound, &format!("{done}."));
    }
    Ok(match what_if {
        true => format!("What if: {operation}\n"),
        false => String::new(),
    })
}

fn report() -> Result<SwitchesReport, Failure> {
    switch::report(&switch::default_socket()).map_err(|error| unavailable(&error))
}

fn find<'a>(report: &'a SwitchesReport, name: &str) -> Result<&'a SwitchReport, Failure> {
    switch::find(report, name).map_err(|refusal| refused(&refusal))
}

fn unavailable(error: &anyhow::Error) -> Failure {
    Failure::new(Kind::Unavailable, format!("{error:#}"))
}

fn refused(refusal: &SwitchRefusal) -> Failure {
    let (kind, target) = match refusal {
        SwitchRefusal::NoSwitch { switch, .. } => (Kind::ObjectNotFound, switch.clone()),
        SwitchRefusal::NoPeer { address, .. } => (Kind::ObjectNotFound, address.to_string()),
        SwitchRefusal::OwnAddress { address, .. }
        | SwitchRefusal::Address { address }
        | SwitchRefusal::Taken { address, .. }
        | SwitchRefusal::OutsideSubnets { address, .. } => {
            (Kind::InvalidRequest, address.to_string())
        }
        _ => (Kind::InvalidRequest, String::new()),
    };
    Failure::new(kind, refusal.describe("-MultiHop")).about(target)
}
