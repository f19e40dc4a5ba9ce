//! BGP communities, literal and by name.

use super::Problems;
use crate::k8s::api::CommunitySpec;
use crate::model::cluster::Community;

/// What an advertisement writes for a community.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// The community itself.
    Literal(Community),
    /// A name for one.
    Alias,
}

/// The well-known communities that may be written by name (IANA registry); an alias of the same
/// name wins.
pub fn well_known(name: &str) -> Option<Community> {
    let value = match name {
        "graceful-shutdown" => 0xffff_0000,                // RFC 8326
        "accept-own" => 0xffff_0001,                       // RFC 7611
        "llgr-stale" => 0xffff_0006,                       // RFC 9494
        "no-llgr" => 0xffff_0007,                          // RFC 9494
        "blackhole" => 0xffff_029a,                        // RFC 7999
        "no-export" => 0xffff_ff01,                        // RFC 1997
        "no-advertise" => 0xffff_ff02,                     // RFC 1997
        "no-export-subconfed" | "local-as" => 0xffff_ff03, // RFC 1997
        "no-peer" => 0xffff_ff04,                          // RFC 3765
        _ => return None,
    };
    Some(Community::Standard(value))
}

/// Reads `A:B`, `large:A:B:C` or a name.
///
/// # Errors
///
/// A text with colons that is no community.
pub(super) fn parse(text: &str) -> Result<Written, String> {
    let wrong = |what: &str| format!("invalid community value \"{text}\": {what}");
    let parts: Vec<_> = text.split(':').collect();
    match parts.as_slice() {
        [_] if !text.is_empty() => Ok(Written::Alias),
        [high, low] => {
            let number = |part: &str| {
                part.parse::<u16>()
                    .ok()
                    .ok_or_else(|| wrong("want two numbers from 0 to 65535"))
            };
            let value = u32::from(number(high)?) << 16 | u32::from(number(low)?);
            Ok(Written::Literal(Community::Standard(value)))
        }
        ["large", a, b, c] => {
            let number = |part: &str| {
                part.parse::<u32>()
                    .ok()
                    .ok_or_else(|| wrong("want three numbers from 0 to 4294967295"))
            };
            let community = Community::Large(number(a)?, number(b)?, number(c)?);
            Ok(Written::Literal(community))
        }
        _ => Err(wrong("write A:B or large:A:B:C")),
    }
}

/// Converts the aliases of a Community.
pub(super) fn convert(spec: &CommunitySpec, problems: &mut Problems) -> Vec<(String, Community)> {
    let mut aliases = Vec::new();
    for (index, alias) in spec.communities.iter().enumerate() {
        let field = format!("spec.communities[{index}]");
        if alias.name.is_empty() {
            problems.refuse(format!("{field}.name"), "name the community");
        }
        let value = format!("{field}.value");
        match parse(&alias.value) {
            Ok(Written::Literal(community)) => aliases.push((alias.name.clone(), community)),
            Ok(Written::Alias) => problems.refuse(
                value,
                format!(
                    "invalid community value \"{}\": write A:B or large:A:B:C",
                    alias.value
                ),
            ),
            Err(message) => problems.refuse(value, message),
        }
    }
    problems.refuse_duplicates(
        "spec.communities",
        "community",
        spec.communities.iter().map(|alias| &alias.name),
    );
    aliases
}
