//! Errors in PowerShell's form.

use std::fmt::Write;

/// Why a cmdlet did nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// What it is about; empty if that is not to be told.
    pub target: String,
    /// What kind of error it is.
    pub kind: Kind,
}

/// What kind of error it is; the words are those of PowerShell, as far as it has some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// There is no such parameter.
    NamedParameterNotFound,
    /// A prefix that several parameters have.
    AmbiguousParameter,
    /// A parameter is given twice.
    ParameterAlreadyBound,
    /// A parameter is given without what it takes.
    MissingArgument,
    /// What has to be given is not.
    MissingMandatoryParameter,
    /// A value that no parameter takes.
    PositionalParameterNotFound,
    /// A value is of another type.
    CannotConvertArgument,
    /// A value is out of range.
    ParameterArgumentValidationError,
    /// There is no such command.
    CommandNotFound,
    /// There is no such object.
    ObjectNotFound,
    /// The request does not go with what there is.
    InvalidRequest,
    /// There is nobody to ask, or nothing to write to.
    Unavailable,
}

impl Kind {
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        const BINDING: &str = "ParameterBindingException";
        const VALIDATION: &str = "ParameterBindingValidationException";
        const ARGUMENT: &str = "InvalidArgument";
        match self {
            Self::NamedParameterNotFound => (ARGUMENT, BINDING, "NamedParameterNotFound"),
            Self::AmbiguousParameter => (ARGUMENT, BINDING, "AmbiguousParameter"),
            Self::ParameterAlreadyBound => (ARGUMENT, BINDING, "ParameterAlreadyBound"),
            Self::MissingArgument => (ARGUMENT, BINDING, "MissingArgument"),
            Self::MissingMandatoryParameter => (ARGUMENT, BINDING, "MissingMandatoryParameter"),
            Self::PositionalParameterNotFound => (ARGUMENT, BINDING, "PositionalParameterNotFound"),
            Self::CannotConvertArgument => (ARGUMENT, BINDING, "CannotConvertArgumentNoMessage"),
            Self::ParameterArgumentValidationError => (
                "InvalidData",
                VALIDATION,
                "ParameterArgumentValidationError",
            ),
            Self::CommandNotFound => (
                "ObjectNotFound",
                "CommandNotFoundException",
                "CommandNotFoundException",
            ),
            Self::ObjectNotFound => ("ObjectNotFound", "ItemNotFoundException", "NotFound"),
            Self::InvalidRequest => (ARGUMENT, "ArgumentException", "InvalidRequest"),
            Self::Unavailable => (
                "ResourceUnavailable",
                "InvalidOperationException",
                "Unavailable",
            ),
        }
    }
}

impl Failure {
    /// One about nothing in particular.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            target: String::new(),
            kind,
        }
    }

    /// The same about something.
    #[must_use]
    pub fn about(self, target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            ..self
        }
    }

    /// What PowerShell would print.
    pub fn render(&self, command: &str) -> String {
        let (category, exception, id) = self.kind.words();
        let target = match self.target.as_str() {
            "" => ":".to_owned(),
            target => format!("{target}:String"),
        };
        let mut text = format!("{command} : {}\n", sentence(&self.message));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "    + CategoryInfo          : {category}: ({target}) [{command}], {exception}"
        );
        let _ = writeln!(text, "    + FullyQualifiedErrorId : {id},{command}");
        text
    }
}

/// Begins with a capital, unless with a name, and ends with a full stop.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first_word = message.split(' ').next().unwrap_or_default();
    let is_name = !first_word.chars().all(|c| c.is_ascii_lowercase());
    let first = letters.next().map(|first| match is_name {
        true => first,
        false => first.to_ascii_uppercase(),
    });
    let end = if message.ends_with(['.', '?', '"']) {
        ""
    } else {
        "."
    };
    first.into_iter().chain(letters).collect::<String>() + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_looks_like_one_of_powershell() {
        let failure = Failure::new(
            Kind::NamedParameterNotFound,
            "A parameter cannot be found that matches parameter name 'X'.",
        );
        assert_eq!(
            failure.render("Set-HcsBGPPeer"),
            "Set-HcsBGPPeer : A parameter cannot be found that matches parameter name 'X'.
    + CategoryInfo          : InvalidArgument: (:) [Set-HcsBGPPeer], ParameterBindingException
    + FullyQualifiedErrorId : NamedParameterNotFound,Set-HcsBGPPeer
"
        );
        let failure = Failure::new(Kind::ObjectNotFound, "there is none").about("vSwitch9");
        let text = failure.render("Get-HcsBGPPeers");
        assert!(
            text.starts_with("Get-HcsBGPPeers : There is none.\n"),
            "{text}"
        );
        assert!(text.contains("(vSwitch9:String)"), "{text}");
    }
}
