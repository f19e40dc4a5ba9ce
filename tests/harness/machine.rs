//! What the machine must have, and the word for a test that cannot run on it.

use std::io::{self, Write as _};
use std::process::Command;

/// Programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("bird", "bird2"),
    ("birdc", "bird2"),
    ("nft", "nftables"),
    ("ethtool", "ethtool"),
];

/// What is missing here to build a laboratory.
pub fn missing() -> Option<String> {
    missing_with(&[])
}

fn missing_with(more: &[(&str, &str)]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let absent = PROGRAMS
        .iter()
        .chain(more)
        .find(|(program, _)| Command::new(program).arg("--version").output().is_err());
    absent.map(|(program, package)| format!("{program} is missing: install the package {package}"))
}

/// Whether a test can run here; if not, says `SKIP: reason` on a line of its own.
pub fn can_test() -> bool {
    can_test_with(&[])
}

/// The same for a test that needs more programs; each with the Debian package that has it.
pub fn can_test_with(more: &[(&str, &str)]) -> bool {
    let Some(reason) = missing_with(more) else {
        return true;
    };
    // Not println: the test runner would swallow it.
    let _ = writeln!(io::stdout(), "SKIP: {reason}");
    false
}
