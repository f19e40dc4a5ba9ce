//! `torline detach`: takes down what an agent left behind.

use std::path::Path;

use super::print;
use crate::datapath::{attach, pins};

/// Removes everything that is pinned, and says what that was.
pub(super) fn detach(pin: &Path) -> anyhow::Result<()> {
    let removed = pins::remove_all(pin)?;
    attach::remove_filters()?;
    match removed {
        0 => print(&format!("nothing is pinned in {}\n", pin.display())),
        removed => print(&format!(
            "{removed} links and maps removed from {}\n",
            pin.display()
        )),
    }
}
