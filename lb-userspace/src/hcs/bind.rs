//! Arguments, read as PowerShell reads them.
//!
//! Names of parameters are taken in any case and may be cut short where no other begins so; `-Name:value`
//! is `-Name value`. All values have names: there are no positions.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::cmdlet::{Cmdlet, Parameter, Takes};
use super::failure::{Failure, Kind};
use crate::plan::switch::{check_asn, check_hold_time};

/// What a cmdlet was given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bound {
    values: BTreeMap<&'static str, Value>,
    /// Help is asked for, and nothing else matters.
    pub wants_help: bool,
}

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Truth(bool),
    Text(String),
    Address(IpAddr),
    Number(u32),
}

impl Bound {
    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.values.get(name) == Some(&Value::Truth(true))
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// An address.
    pub fn address(&self, name: &str) -> Option<IpAddr> {
        match self.values.get(name) {
            Some(Value::Address(address)) => Some(*address),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<u32> {
        match self.values.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }
}

/// Reads the arguments of a cmdlet.
///
/// # Errors
/// The first that is wrong, or what is missing.
pub fn bind(cmdlet: Cmdlet, arguments: &[String]) -> Result<Bound, Failure> {
    let mut bound = Bound::default();
    if arguments.iter().any(|argument| argument == "-?") {
        bound.wants_help = true;
        return Ok(bound);
    }
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let Some(name) = parameter_name(argument) else {
            return Err(Failure::new(
                Kind::PositionalParameterNotFound,
                format!(
                    "A positional parameter cannot be found that accepts argument '{argument}'."
                ),
            ));
        };
        let (name, attached) = match name.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let parameter = find(cmdlet, name)?;
        let attached = attached.filter(|value| !value.is_empty());
        let is_switch = parameter.takes == Takes::Nothing;
        let wants_next = attached.is_none() && (!is_switch || argument.ends_with(':'));
        let next = rest.next_if(|next| wants_next && parameter_name(next).is_none());
        let text = attached.or(next.map(String::as_str));
        let value = match text {
            Some(text) => convert(parameter, text)?,
            None if is_switch && !wants_next => Value::Truth(true),
            None => return Err(missing_argument(parameter)),
        };
        if bound.values.insert(parameter.name, value).is_some() {
            return Err(Failure::new(
                Kind::ParameterAlreadyBound,
                format!(
                    "Cannot bind parameter because parameter '{}' is specified more than once.",
                    parameter.name
                ),
            ));
        }
    }
    let parameters = cmdlet.parameters().iter();
    let missing: Vec<_> = parameters
        .filter(|it| it.is_mandatory && !bound.values.contains_key(it.name))
        .map(|it| it.name)
        .collect();
    if missing.is_empty() {
        return Ok(bound);
    }
    Err(Failure::new(
        Kind::MissingMandatoryParameter,
        format!(
            "Cannot process command because of one or more missing mandatory parameters: {}.",
            missing.join(" ")
        ),
    ))
}

/// The name in an argument that is one; `-1` is a value. PowerShell takes typographic dashes for dashes.
fn parameter_name(argument: &str) -> Option<&str> {
    let name = argument.strip_prefix(['-', '\u{2013}', '\u{2014}', '\u{2015}'])?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '-');
    is_name.then_some(name)
}

/// The parameter that a name means.
fn find(cmdlet: Cmdlet, name: &str) -> Result<&'static Parameter, Failure> {
    let parameters = cmdlet.parameters().iter();
    let begins = |it: &&Parameter| {
        let head = it.name.get(..name.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(name))
    };
    let matching: Vec<_> = parameters.filter(begins).collect();
    let exact = matching.iter().find(|it| it.name.len() == name.len());
    match (exact, matching.as_slice()) {
        (Some(parameter), _) => Ok(parameter),
        (None, [parameter]) => Ok(parameter),
        (None, []) => Err(Failure::new(
            Kind::NamedParameterNotFound,
            format!("A parameter cannot be found that matches parameter name '{name}'."),
        )),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|it| format!("-{}", it.name)).collect();
            Err(Failure::new(
                Kind::AmbiguousParameter,
                format!(
                    "Parameter cannot be processed because the parameter name '{name}' is ambiguous. \
                     Possible matches include: {}.",
                    names.join(" ")
                ),
            ))
        }
    }
}

fn missing_argument(parameter: &Parameter) -> Failure {
    let name = parameter.name;
    let takes = parameter.takes.type_name().unwrap_or("Boolean");
    Failure::new(
        Kind::MissingArgument,
        format!(
            "Missing an argument for parameter '{name}'. Specify a parameter of type 'System.{takes}' and \
             try again."
        ),
    )
}

fn convert(parameter: &Parameter, text: &str) -> Result<Value, Failure> {
    let name = parameter.name;
    let not_of_type = |kind: &str, why: &str| {
        let message = format!(
            "Cannot bind parameter '{name}'. Cannot convert value \"{text}\" to type \"{kind}\". Error: \"{why}\""
        );
        Failure::new(Kind::CannotConvertArgument, message)
    };
    let out_of_range = |why: String| {
        let message = format!("Cannot validate argument on parameter '{name}'. {why}.");
        Failure::new(Kind::ParameterArgumentValidationError, message)
    };
    match parameter.takes {
        Takes::Nothing => match text.trim_start_matches('$').to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Value::Truth(true)),
            "false" | "0" => Ok(Value::Truth(false)),
            _ => Err(not_of_type(
                "System.Management.Automation.SwitchParameter",
                "Boolean parameters accept only Boolean values and numbers, such as $True, $False, 1 or 0.",
            )),
        },
        Takes::Text => Ok(Value::Text(text.to_owned())),
        Takes::Address => text.parse().map(Value::Address).ok().ok_or_else(|| {
            not_of_type(
                "System.Net.IPAddress",
                "An invalid IP address was specified.",
            )
        }),
        Takes::Asn => {
            // What is no number at all is told the ranges too.
            let asn = text.parse::<u64>().ok();
            let refusal = || {
                format!(
                    "\"{text}\" is no ASN that can be used: want 1 to 65534, or 131072 to 4294967294"
                )
            };
            let asn = asn.filter(|asn| check_asn(*asn, false).is_ok());
            let asn = asn.and_then(|asn| u32::try_from(asn).ok());
            asn.map(Value::Number)
                .ok_or_else(|| out_of_range(refusal()))
        }
        Takes::Seconds => {
            let seconds = text.parse::<u64>().ok().ok_or_else(|| {
                not_of_type("System.UInt16", "Input string was not in a correct format.")
            })?;
            check_hold_time(seconds).map_err(|refusal| out_of_range(refusal.to_string()))?;
            Ok(Value::Number(u32::try_from(seconds).unwrap_or(u32::MAX)))
        }
    }
}

#[cfg(test)]
mod tests;
