//! A password that does not end up in a log.

use std::fmt;

use serde::Deserialize;

/// A password. `Debug` does not print it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text, for whoever is to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is empty, which no password is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_printed() {
        let password = Password::new("hunter2");
        assert_eq!(
            format!("{password:?} {password:#?}"),
            "Password(..) Password(..)"
        );
        assert_eq!(password.expose(), "hunter2");
    }
}
